"""Preference models on tiny random weights, against their published formulas written out by hand."""

import numpy as np
import pytest
import torch
from PIL import Image
from preference_weights import image_reward, image_reward_score, open_clip, open_clip_cosine
from safetensors.torch import save_file
from tiny_judges import tokenizer

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards import Reward, RewardError, create
from gdro_comfy.rewards.preference import PREFERENCES, prepare

TEXTS = ["a red fox", "two cats", "a sign", "x"]


def words():
    """End of text is the token with the largest number, as with CLIP's own."""
    made = tokenizer()
    made.add_special_tokens({"eos_token": "<|end|>", "pad_token": "<pad>"})
    from tokenizers.processors import TemplateProcessing

    end = made.convert_tokens_to_ids("<|end|>")
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", end)]
    )
    return made


def clip_config(count):
    from transformers import CLIPConfig

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    size["num_attention_heads"] = 2
    return CLIPConfig(
        projection_dim=16,
        vision_config={**size, "image_size": 32, "patch_size": 8},
        text_config={**size, "vocab_size": count, "max_position_embeddings": 20, "eos_token_id": 2},
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of weights for each kind."""
    from transformers import CLIPModel

    root, made = tmp_path_factory.mktemp("preference"), words()
    found = {}
    for kind, preference in PREFERENCES.items():
        found[kind] = folder = root / preference.name
        made.save_pretrained(folder)
    torch.manual_seed(0)
    clip = CLIPModel(clip_config(len(made)))
    for kind in ("PickScore", "CLIP score", "LAION aesthetic"):
        clip.save_pretrained(found[kind])
    head = {}
    for place, (out, into) in zip((0, 2, 7), ((8, 16), (4, 8), (1, 4)), strict=True):
        head[f"mlp.layers.{place}.weight"] = torch.randn(out, into)
        head[f"mlp.layers.{place}.bias"] = torch.randn(out)
    save_file(head, found["LAION aesthetic"] / "LAION-aesthetic.safetensors")
    save_file(open_clip(len(made), "model."), found["HPSv2.1"] / "model.safetensors")
    weights = image_reward(len(made))
    save_file(weights, found["ImageReward"] / "model.safetensors")
    return found


def picture(seed, size=(40, 48)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def scored(kind, folders, images, texts=TEXTS):
    reward = create("preference", kind=kind, folder=folders[kind])
    return reward.score(images, [Prompt(text) for text in texts])


def by_hand(kind, folders, images):
    """The published formula, on the model's own scale."""
    from safetensors.torch import load_file
    from transformers import CLIPModel

    preference, made = PREFERENCES[kind], words()
    pixels = torch.from_numpy(np.stack([prepare(i, 32, preference.whole) for i in images]))
    longest = 35 if kind == "ImageReward" else 20
    padding = "max_length" if kind == "ImageReward" else True
    given = made(TEXTS, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    ids, mask = given["input_ids"], given["attention_mask"]
    if kind == "ImageReward":
        weights = load_file(folders[kind] / "model.safetensors")
        return image_reward_score(weights, pixels, ids, mask)
    if kind == "HPSv2.1":
        return open_clip_cosine(open_clip(len(made)), pixels, ids)
    clip = CLIPModel.from_pretrained(folders[kind])
    seen = clip.vision_model(pixels).pooler_output @ clip.visual_projection.weight.T
    seen = seen / seen.norm(dim=-1, keepdim=True)
    if kind == "LAION aesthetic":
        head = load_file(folders[kind] / "LAION-aesthetic.safetensors")
        for place in (0, 2, 7):
            seen = seen @ head[f"mlp.layers.{place}.weight"].T + head[f"mlp.layers.{place}.bias"]
        return seen[:, 0]
    read = clip.text_model(ids, mask).pooler_output @ clip.text_projection.weight.T
    read = read / read.norm(dim=-1, keepdim=True)
    cosine = (seen * read).sum(-1)
    return cosine * clip.logit_scale.exp() if kind == "PickScore" else 100 * cosine.clamp(min=0)


@pytest.mark.parametrize("kind", PREFERENCES)
def test_scores_are_those_of_the_published_formula(kind, folders):
    images = [picture(seed) for seed in range(4)]
    result = scored(kind, folders, images)
    with torch.no_grad():
        expected = by_hand(kind, folders, images).numpy()
    native = np.array([row["score"] for row in result.details])
    assert native == pytest.approx(expected, abs=2e-4)
    assert np.ptp(native) > 1e-3  # or nothing was compared
    low, high = PREFERENCES[kind].low, PREFERENCES[kind].high
    assert result.values == pytest.approx((expected - low) / (high - low), abs=1e-3)


@pytest.mark.parametrize("kind", PREFERENCES)
def test_batches_and_repetition_change_nothing(kind, folders):
    images = [picture(seed) for seed in range(20)]  # two batches
    texts = [TEXTS[i % 4] for i in range(20)]
    reward = create("preference", kind=kind, folder=folders[kind])
    assert isinstance(reward, Reward)
    prompts = [Prompt(text) for text in texts]
    together = reward.score(images, prompts).values
    assert together.shape == (20,)
    assert np.array_equal(together, reward.score(images, prompts).values)
    alone = [
        reward.score([i], [p]).values[0] for i, p in zip(images[14:], prompts[14:], strict=True)
    ]
    assert together[14:] == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (8192, 64), (64, 8192), (31, 47)])
def test_any_picture_and_any_text_can_be_judged(size, folders):
    for kind in ("PickScore", "HPSv2.1"):
        texts = ["word " * 500, "مرحبا", "🦊🦊", "…"]
        assert np.isfinite(scored(kind, folders, [picture(0, size)] * 4, texts).values).all()


def test_pictures_are_prepared_as_published():
    from transformers import CLIPImageProcessorPil

    image = picture(3, (300, 200))
    official = CLIPImageProcessorPil()(image, return_tensors="np")["pixel_values"][0]
    assert prepare(image, 224, whole=False) == pytest.approx(official, abs=1e-5)
    shown = prepare(Image.new("RGB", (200, 100), "white"), 224, whole=True)
    black = (0 - 0.48145466) / 0.26862954
    assert shown[0, :56] == pytest.approx(black)  # a margin, above and below
    assert shown[0, 168:] == pytest.approx(black)
    assert (shown[0, 56:168] > 1).all()


def test_cancelling_is_asked_for_each_batch(folders):
    def check():
        raise Cancelled

    reward = create("preference", kind="CLIP score", folder=folders["CLIP score"])
    with pytest.raises(Cancelled):
        reward.score([picture(0)], [Prompt("x")], check)


def test_an_image_that_fails_is_named(folders, tmp_path):
    picture(0).save(tmp_path / "whole.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    reward = create("preference", kind="CLIP score", folder=folders["CLIP score"])
    with pytest.raises(RewardError, match="image 1 of 'b'"):
        reward.score([picture(0), Image.open(broken)], [Prompt("a"), Prompt("b")])


def test_nothing_is_fetched_unless_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it went to the network"))
    for kind in PREFERENCES:
        reward = create("preference", kind=kind)
        with pytest.raises(InputError, match="Switch download on"):
            reward.check_prompts([Prompt("x")])


def test_without_a_network_a_download_says_so(monkeypatch):
    reward = create("preference", kind="HPSv2.1", download=True)
    with pytest.raises(InputError, match="cannot be fetched"):
        reward.check_prompts([Prompt("x")])


def test_pickled_weights_are_not_read(folders, tmp_path):
    for file in folders["PickScore"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    torch.save({}, tmp_path / "pytorch_model.bin")
    reward = create("preference", kind="PickScore", folder=tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        reward.score([picture(0)], [Prompt("x")])


def test_folders_of_another_model_are_refused(folders, tmp_path):
    reward = create("preference", kind="ImageReward", folder=folders["HPSv2.1"])
    with pytest.raises(InputError, match="does not hold ImageReward"):
        reward.score([picture(0)], [Prompt("x")])
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    for file in folders["HPSv2.1"].glob("token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="has 2 files"):
        create("preference", kind="HPSv2.1", folder=tmp_path).check_prompts([Prompt("x")])


def test_a_model_with_layers_left_out_is_no_random_judge(folders, tmp_path):
    from safetensors.torch import load_file

    for file in folders["PickScore"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    reward = create("preference", kind="PickScore", folder=tmp_path)
    with pytest.raises(InputError, match=r"lacks 1 of the weights.*visual_projection"):
        reward.score([picture(0)], [Prompt("x")])


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="PickScore, HPSv2"):
        create("preference", kind="beauty")
