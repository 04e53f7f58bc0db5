"""Preference models with tiny random weights, against their published formulas written out by hand."""

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
from gdro_comfy.rewards.preference import PREFERENCES, preprocess

TEXTS = ["a red fox", "two cats", "a sign", "x"]


def clip_tokenizer():
    """Return a tokenizer whose end of text is the token with the largest number, as CLIP's is."""
    from tokenizers.processors import TemplateProcessing

    clip = tokenizer()
    clip.add_special_tokens({"eos_token": "<|end|>", "pad_token": "<pad>"})
    end = clip.convert_tokens_to_ids("<|end|>")
    clip.backend_tokenizer.post_processor = TemplateProcessing(
        single="$A <|end|>", special_tokens=[("<|end|>", end)]
    )
    return clip


def clip_config(vocabulary):
    from transformers import CLIPConfig

    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    size["num_attention_heads"] = 2
    return CLIPConfig(
        projection_dim=16,
        vision_config={**size, "image_size": 32, "patch_size": 8},
        text_config={
            **size,
            "vocab_size": vocabulary,
            "max_position_embeddings": 20,
            "eos_token_id": 2,
        },
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a folder of weights for each kind."""
    from transformers import CLIPModel

    root, tokens = tmp_path_factory.mktemp("preference"), clip_tokenizer()
    folders = {}
    for kind, preference in PREFERENCES.items():
        folders[kind] = root / preference.name
        tokens.save_pretrained(folders[kind])
    torch.manual_seed(0)
    clip = CLIPModel(clip_config(len(tokens)))
    for kind in ("PickScore", "CLIP score", "LAION aesthetic"):
        clip.save_pretrained(folders[kind])
    head = {}
    for layer, (rows, columns) in zip((0, 2, 7), ((8, 16), (4, 8), (1, 4)), strict=True):
        head[f"mlp.layers.{layer}.weight"] = torch.randn(rows, columns)
        head[f"mlp.layers.{layer}.bias"] = torch.randn(rows)
    save_file(head, folders["LAION aesthetic"] / "LAION-aesthetic.safetensors")
    save_file(open_clip(len(tokens), "model."), folders["HPSv2.1"] / "model.safetensors")
    weights = image_reward(len(tokens))
    save_file(weights, folders["ImageReward"] / "model.safetensors")
    return folders


def random_image(seed, size=(40, 48)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


def score(kind, folders, images, texts=TEXTS):
    reward = create("preference", kind=kind, folder=folders[kind])
    return reward.score(images, [Prompt(text) for text in texts])


def by_hand(kind, folders, images):
    """Return the published formula's values, on the model's own scale."""
    from safetensors.torch import load_file
    from transformers import CLIPModel

    preference, tokens = PREFERENCES[kind], clip_tokenizer()
    pixels = torch.from_numpy(np.stack([preprocess(i, 32, preference.letterbox) for i in images]))
    longest = 35 if kind == "ImageReward" else 20
    padding = "max_length" if kind == "ImageReward" else True
    text = tokens(TEXTS, padding=padding, truncation=True, max_length=longest, return_tensors="pt")
    ids, mask = text["input_ids"], text["attention_mask"]
    if kind == "ImageReward":
        weights = load_file(folders[kind] / "model.safetensors")
        return image_reward_score(weights, pixels, ids, mask)
    if kind == "HPSv2.1":
        return open_clip_cosine(open_clip(len(tokens)), pixels, ids)
    clip = CLIPModel.from_pretrained(folders[kind])
    image = clip.vision_model(pixels).pooler_output @ clip.visual_projection.weight.T
    image = image / image.norm(dim=-1, keepdim=True)
    if kind == "LAION aesthetic":
        head = load_file(folders[kind] / "LAION-aesthetic.safetensors")
        for layer in (0, 2, 7):
            weight, bias = (head[f"mlp.layers.{layer}.{part}"] for part in ("weight", "bias"))
            image = image @ weight.T + bias
        return image[:, 0]
    prompt = clip.text_model(ids, mask).pooler_output @ clip.text_projection.weight.T
    prompt = prompt / prompt.norm(dim=-1, keepdim=True)
    cosine = (image * prompt).sum(-1)
    return cosine * clip.logit_scale.exp() if kind == "PickScore" else 100 * cosine.clamp(min=0)


@pytest.mark.parametrize("kind", PREFERENCES)
def test_scores_are_those_of_the_published_formula(kind, folders):
    images = [random_image(seed) for seed in range(4)]
    result = score(kind, folders, images)
    with torch.no_grad():
        expected = by_hand(kind, folders, images).numpy()
    own_scale = np.array([row["score"] for row in result.details])
    assert own_scale == pytest.approx(expected, abs=2e-4)
    assert np.ptp(own_scale) > 1e-3  # otherwise nothing was compared
    low, high = PREFERENCES[kind].low, PREFERENCES[kind].high
    assert result.values == pytest.approx((expected - low) / (high - low), abs=1e-3)


@pytest.mark.parametrize("kind", PREFERENCES)
def test_batches_and_repetition_change_nothing(kind, folders):
    images = [random_image(seed) for seed in range(20)]  # two batches
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
def test_images_of_any_size_and_any_text_can_be_scored(size, folders):
    for kind in ("PickScore", "HPSv2.1"):
        texts = ["word " * 500, "مرحبا", "🦊🦊", "…"]
        assert np.isfinite(score(kind, folders, [random_image(0, size)] * 4, texts).values).all()


def by_the_paper(image, side):
    """Return the preparation of CLIP's paper: resize the shorter side, crop the middle, normalise."""
    size = [int(length * side / min(image.size)) for length in image.size]
    left, top = ((length - side) // 2 for length in size)
    square = image.resize(size, Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    mean = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)
    deviation = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)
    return ((np.asarray(square, np.float32) / 255 - mean) / deviation).transpose(2, 0, 1)


# 1 and 3 pixels could be taken for channels.
@pytest.mark.parametrize("size", [(300, 200), (200, 301), (31, 47), (1, 1), (3, 50), (50, 3)])
def test_images_are_prepared_as_published(size):
    image = random_image(3, size)
    assert preprocess(image, 224) == pytest.approx(by_the_paper(image, 224), abs=1e-5)


def test_a_letterboxed_image_has_black_margins():
    pixels = preprocess(Image.new("RGB", (200, 100), "white"), 224, letterbox=True)
    black = (0 - 0.48145466) / 0.26862954
    assert pixels.shape == (3, 224, 224)
    assert pixels[0, :56] == pytest.approx(black)
    assert pixels[0, 168:] == pytest.approx(black)
    assert (pixels[0, 56:168] > 1).all()
    line = preprocess(Image.new("RGB", (8192, 1), "white"), 32, letterbox=True)
    assert (line[0, 15] > 1).all()  # a row of its own, in the middle


def test_cancelling_takes_effect_before_a_batch(folders):
    def check():
        raise Cancelled

    reward = create("preference", kind="CLIP score", folder=folders["CLIP score"])
    with pytest.raises(Cancelled):
        reward.score([random_image(0)], [Prompt("x")], check)


def test_an_unreadable_image_is_named(folders, tmp_path):
    random_image(0).save(tmp_path / "whole.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    reward = create("preference", kind="CLIP score", folder=folders["CLIP score"])
    with pytest.raises(RewardError, match="image 1 of 'b'"):
        reward.score([random_image(0), Image.open(broken)], [Prompt("a"), Prompt("b")])


def test_nothing_is_downloaded_unless_allowed(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it used the network"))
    for kind in PREFERENCES:
        reward = create("preference", kind=kind)
        with pytest.raises(InputError, match="Switch download on"):
            reward.check_prompts([Prompt("x")])


def test_a_download_without_a_network_says_so():
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
        reward.score([random_image(0)], [Prompt("x")])


def test_folders_of_another_model_are_refused(folders, tmp_path):
    reward = create("preference", kind="ImageReward", folder=folders["HPSv2.1"])
    with pytest.raises(InputError, match="does not hold ImageReward"):
        reward.score([random_image(0)], [Prompt("x")])
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"")
    for file in folders["HPSv2.1"].glob("token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(InputError, match="has 2 files"):
        create("preference", kind="HPSv2.1", folder=tmp_path).check_prompts([Prompt("x")])


def test_a_model_with_missing_layers_does_not_judge_at_random(folders, tmp_path):
    from safetensors.torch import load_file

    for file in folders["PickScore"].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(tmp_path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    reward = create("preference", kind="PickScore", folder=tmp_path)
    with pytest.raises(InputError, match=r"lacks 1 of the weights.*visual_projection"):
        reward.score([random_image(0)], [Prompt("x")])


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match="PickScore, HPSv2"):
        create("preference", kind="beauty")
