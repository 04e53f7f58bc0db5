"""A local vision-language model as a judge: a tiny LLaVA with random weights."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_judges import save_vlm

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards import RewardError, create
from gdro_comfy.rewards.local_judge import LocalJudge
from gdro_comfy.rewards.rubric import question

COSY = question("How cosy does this room look?", 1, 5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_vlm(tmp_path_factory.mktemp("judges") / "tiny-llava")


def random_image(seed, size=(48, 40)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def test_the_probabilities_are_those_of_the_model(folder):
    """Compare those of the first token with one plain pass of the model."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    judge = LocalJudge(folder, max_tokens=4)
    image = random_image(0)
    with judge._network.active() as model:
        judge.check()
        answer = judge._answer(model, [image], "How cosy?", lambda: None)
    processor = AutoProcessor.from_pretrained(folder)
    text = "user: <image>How cosy?\nassistant: "
    inputs = processor(images=[image], text=[text], return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForImageTextToText.from_pretrained(folder)(**inputs).logits[0, -1]
    top = logits.softmax(-1).topk(20)
    expected = {processor.decode([i]): p for i, p in zip(top.indices, top.values, strict=True)}
    for word, probability in answer.tokens[0].probabilities.items():
        if word in expected and word != "\ufffd":  # which stands for many different bytes
            assert probability == pytest.approx(float(expected[word]), abs=1e-5)
    assert answer.usage == (inputs["input_ids"].shape[1], len(answer.tokens))


def test_a_question_about_two_images_shows_both_in_their_order(folder):
    from transformers import AutoModelForImageTextToText, AutoProcessor

    judge, images = LocalJudge(folder, max_tokens=2), [random_image(1), random_image(2)]
    processor = AutoProcessor.from_pretrained(folder)
    text = "user: <image><image>Which?\nassistant: "
    inputs = processor(images=images, text=[text], return_tensors="pt")
    with torch.no_grad():
        logits = AutoModelForImageTextToText.from_pretrained(folder)(**inputs).logits[0, -1]
    with judge._network.active() as model:
        judge.check()
        answer = judge._answer(model, images, "Which?", lambda: None)
    assert answer.usage[0] == inputs["input_ids"].shape[1]
    # No verdict comes of random weights, but the first token depends on both images.
    top = logits.softmax(-1).topk(20)
    expected = {processor.decode([i]): p for i, p in zip(top.indices, top.values, strict=True)}
    shared = (expected.keys() & answer.tokens[0].probabilities.keys()) - {"\ufffd"}
    assert len(shared) > 5
    for word in shared:
        assert answer.tokens[0].probabilities[word] == pytest.approx(
            float(expected[word]), abs=1e-5
        )
    swapped = LocalJudge(folder, max_tokens=2)
    with swapped._network.active() as model:
        swapped.check()
        other = swapped._answer(model, images[::-1], "Which?", lambda: None)
    assert other.tokens[0].probabilities != answer.tokens[0].probabilities


class Steered(LocalJudge):
    """The tiny model, made to answer with digits as a trained one does; it chooses which."""

    def _load(self):
        model = super()._load()
        digits = [self._processor.tokenizer.convert_tokens_to_ids(d) for d in "12345"]
        model.lm_head = _Only(model.lm_head, digits)
        return model


class _Only(torch.nn.Module):
    def __init__(self, head, allowed):
        super().__init__()
        self.head, self.allowed = head, allowed

    def forward(self, hidden):
        logits = self.head(hidden) * 20
        mask = torch.full_like(logits, -50.0)
        mask[..., self.allowed] = 0.0
        return logits + mask


def reward_with(folder, judge=Steered):
    return create("vlm", rubric=COSY, judge=judge(folder, max_tokens=1))


def test_scores_are_expectations_and_always_the_same(folder):
    images = [random_image(seed) for seed in range(4)]
    prompts = [Prompt("a room")] * 4
    first = reward_with(folder).score(images, prompts)
    again = reward_with(folder).score(images[::-1], prompts)
    assert np.array_equal(first.values, again.values[::-1])
    assert ((first.values > 0) & (first.values < 1)).all()
    assert len(set(first.values.tolist())) == 4  # although answers are whole numbers
    assert {row["answer"] for row in first.details} <= set("12345")


def test_thin_and_tiny_images_are_judged(folder):
    images = [random_image(1, size) for size in [(1, 1), (8192, 64)]]
    assert np.isfinite(reward_with(folder).score(images, [Prompt("a")] * 2).values).all()


def test_an_unreadable_answer_is_never_a_silent_zero(folder):
    with pytest.raises(RewardError, match="image 0 of 'a room' was not judged"):
        reward_with(folder, LocalJudge).score([random_image(0)], [Prompt("a room")])


def test_cancelling_takes_effect_between_two_tokens(folder):
    class Counted:
        calls = 0

        def __call__(self):
            self.calls += 1
            if self.calls > 5:
                raise Cancelled

    check = Counted()
    judge = LocalJudge(folder, max_tokens=200)
    with pytest.raises(Cancelled):
        create("vlm", rubric=COSY, judge=judge).score([random_image(0)], [Prompt("a")], check)
    assert check.calls == 6


def test_folders_without_a_judge_are_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"no config\.json"):
        LocalJudge(tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    torch.save({}, broken / "pytorch_model.bin")  # never read: it could run any code
    with pytest.raises(InputError, match="cannot be loaded"):
        reward_with(broken).score([random_image(0)], [Prompt("a")])
    (broken / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        LocalJudge(broken).check()
