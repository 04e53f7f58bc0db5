"""Importing images: encoded like sampled ones, and all problems reported at once."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin
from recording_host import RecordingHost

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.importing.import_groups import ImportConfig, import_groups
from gdro_comfy.importing.sources import from_folder, from_images
from gdro_comfy.progress import Cancelled
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train

PROMPTS = from_text("one red circle\ntwo blue squares")
CONFIG = ImportConfig(steps=1, run_name="mine")


@pytest.fixture(scope="module")
def sampled(bundled_model, tmp_path_factory):
    """A sampled rollout to compare with: 2 prompts, 4 images each."""
    host = RecordingHost(tmp_path_factory.mktemp("sampled"))
    config = RolloutConfig(images_per_prompt=4, steps=8, guidance=1.5, run_name="sampled")
    return sample_rollout(host, bundled_model, PROMPTS, config)


@pytest.fixture
def taste(sampled, tmp_path):
    """A folder to import: a sub-folder per prompt with prompt.txt and images 1 (best) to 4."""
    for group in sampled.groups():
        folder = tmp_path / "input" / "taste" / group.prompt.text.replace(" ", "_")
        folder.mkdir(parents=True)
        (folder / "prompt.txt").write_text(group.prompt.text + "\n", encoding="utf-8")
        for index in range(4):
            shutil.copy(group.image_path(index), folder / f"{index + 1}.png")
    return tmp_path / "input" / "taste"


def load(host, model, folder, prompts_from="caption files", typed="", **changes):
    source = from_folder(folder, prompts_from, typed)
    return import_groups(
        host, model, source, ImportConfig(**{"steps": 1, "run_name": "mine", **changes})
    )


def problems(error):
    return [line[2:] for line in str(error.value).splitlines() if line.startswith("- ")]


def save(path, size=(64, 64), mode="RGB", seed=0, **kwargs):
    """Save an image of noise that differs for each path and seed."""
    noise = np.random.default_rng([seed, *str(path)[-60:].encode()]).integers(
        0, 255, (*size[::-1], 3)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise.astype(np.uint8)).convert(mode).save(path, **kwargs)


def folder_of(tmp_path, **groups):
    for prompt, names in groups.items():
        for name in names:
            save(tmp_path / "set" / prompt / name)
    return tmp_path / "set"


def test_latents_match_those_of_sampled_images(bundled_model, host, sampled, taste):
    imported = load(host, bundled_model, taste).rollout
    assert imported.images_per_prompt == 4
    assert imported.prompts == sampled.prompts
    for group, expected in zip(imported.groups(), sampled.groups(), strict=True):
        # The difference is the VAE's loss; its latents have a standard deviation of about 1.
        error = (group.latents().float() - expected.latents().float()).square().mean().sqrt()
        assert error < 0.25 * expected.latents().float().std()
        for index in range(4):
            assert group.image(index).tobytes() == expected.image(index).tobytes()
        for name, tensor in expected.conditioning().tensors.items():
            assert torch.allclose(group.conditioning().tensors[name], tensor, atol=1e-5)


def test_imported_latents_decode_to_the_images(bundled_model, host, taste):
    for group in load(host, bundled_model, taste).rollout.groups():
        decoded = bundled_model.decode(group.latents().float())
        stored = np.stack([np.asarray(group.image(index)) for index in range(4)]) / 255
        assert np.abs(decoded.numpy() - stored).mean() < 0.03


def test_the_order_of_the_file_names_is_a_reward_to_train_on(bundled_model, host, taste):
    imported = load(host, bundled_model, taste)
    assert "the reward is the order of the file names" in imported.summary
    scored = score_rollout(host, imported.rollout, imported.reward)
    assert np.allclose(scored.scores(), [[1, 2 / 3, 1 / 3, 0]] * 2)
    result = train(
        host, bundled_model, scored, GDRO(group_size=4, temperature=0.0),
        TrainConfig(steps=2, groups_per_step=2, preview_every=2),
    )  # fmt: skip
    assert result.path.is_file()
    assert len(list((result.folder / "samples").glob("*.png"))) == 1
    with pytest.raises(InputError, match="another reward for rounds"):
        imported.reward.check_prompts(imported.rollout.prompts)


@pytest.mark.parametrize(
    ("names", "rewards"),
    [
        (["a_w.png", "a_l.png", "b_L.png"], [1, 0, 0]),
        (["10.png", "2.png", "01.png"], [1, 0.5, 0]),
        (["1.png", "1.webp", "7.png"], [1, 1, 0]),
    ],
)
def test_file_names_that_give_an_order(bundled_model, host, tmp_path, names, rewards):
    imported = load(host, bundled_model, folder_of(tmp_path, cat=names), "folder names")
    assert score_rollout(host, imported.rollout, imported.reward).scores().tolist() == [rewards]


@pytest.mark.parametrize("names", [["a.png", "b.png"], ["1.png", "b.png"], ["1.png", "x_w.png"],
                                   ["a_w.png", "b_w.png"]])  # fmt: skip
def test_file_names_without_an_order_are_reported_when_the_reward_is_used(
    bundled_model, host, tmp_path, names
):
    imported = load(host, bundled_model, folder_of(tmp_path, cat=names), "folder names")
    assert "give no order" in imported.summary
    with pytest.raises(
        InputError, match=r"give no order.*Name the pictures of every prompt 1, 2, 3"
    ):
        score_rollout(host, imported.rollout, imported.reward)


def test_all_problems_are_reported_at_once_and_nothing_is_written(bundled_model, host, taste):
    circles, squares = taste / "one_red_circle", taste / "two_blue_squares"
    (circles / "2.png").write_bytes((circles / "2.png").read_bytes()[:400])
    (circles / "3.png").write_bytes(b"")
    shutil.copy(circles / "1.png", squares / "9.png")
    (squares / "1.txt").write_text("three blue squares", encoding="utf-8")
    save(taste / "alone" / "1.png")
    (taste / "alone" / "prompt.txt").write_bytes(b"\xff\xfe\xff")
    save(taste / "one star" / "1.png", (1, 1))
    (taste / "one star" / "prompt.txt").write_text("一只 猫", encoding="utf-8")
    frames = [Image.new("RGB", (64, 64), color) for color in ("red", "blue")]
    frames[0].save(taste / "one star" / "2.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="something is wrong with the pictures") as error:
        load(host, bundled_model, taste)
    reported = problems(error)
    for expected in (
        "one_red_circle/2.png: it is damaged or cut short",
        "one_red_circle/3.png: it is damaged, or not a picture of a supported format",
        "two_blue_squares/9.png: it is the same as one_red_circle/1.png",
        "two_blue_squares/1.png: its .txt says 'three blue squares', but prompt.txt says 'two blue squares'",
        "two_blue_squares: its pictures have 2 prompts",
        "alone/prompt.txt is not text in UTF-8",
        "alone/1.png: there is no prompt.txt",
        "one star: ('一只 猫') has text this model cannot read",
        "one star/1.png: 1 x 1 pixels would be enlarged 64 times",
        "one star/2.gif: it has 2 frames or pages",
    ):
        assert [line for line in reported if line.startswith(expected)], (expected, reported)
    assert not (host.output_dir / "gdro").exists()


def test_a_group_of_one_image_is_refused(bundled_model, host, tmp_path):
    folder = folder_of(tmp_path, cat=["a.png"], dog=["a.png", "b.png"])
    with pytest.raises(InputError) as error:
        load(host, bundled_model, folder, "folder names")
    assert problems(error) == ["cat: 1 picture leaves nothing to compare; 2 or more are needed"]


def test_unusual_image_formats_are_imported_as_they_look(bundled_model, host, tmp_path):
    folder = tmp_path / "set" / "one red circle"
    folder.mkdir(parents=True)
    clear = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    clear.putpixel((1, 1), (255, 0, 0, 255))
    clear.save(folder / "a.png")
    Image.new("L", (64, 64), 100).save(folder / "b.png")
    Image.fromarray(np.full((64, 64), 200 * 257, np.uint16)).save(folder / "c.png")
    turned = Image.new("RGB", (128, 64), "blue")
    turned.paste("yellow", (64, 0, 128, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "d.jpg", exif=exif)
    Image.new("P", (64, 64), 0).save(folder / "Größe 猫 🐈.png")
    [group] = load(host, bundled_model, tmp_path / "set", "folder names").rollout.groups()
    a, b, c, d, _ = (np.asarray(group.image(index)) for index in range(5))
    assert (a[0, 0].tolist(), a[1, 1].tolist()) == ([255] * 3, [255, 0, 0])
    assert (b == 100).all()
    assert (c == 200).all()
    assert d[0, 32, 2] > 200 > d[63, 32, 2]  # upright: blue above yellow


def test_other_sizes_are_scaled_to_cover_and_cropped_to_the_centre(bundled_model, host, tmp_path):
    folder = tmp_path / "set" / "a_circle"
    wide = Image.new("RGB", (256, 64), "blue")
    wide.paste("red", (96, 0, 160, 64))
    folder.mkdir(parents=True)
    wide.save(folder / "wide.png")
    save(folder / "strip.png", (8192, 64))
    save(folder / "exact.png")
    imported = load(host, bundled_model, tmp_path / "set", "folder names")
    images = [imported.rollout.groups()[0].image(index) for index in range(3)]
    assert {image.size for image in images} == {(64, 64)}
    assert (np.asarray(images[2]) == [255, 0, 0]).all()
    assert "scaled to cover 64 x 64 and cropped to the centre: " in imported.summary
    assert (
        "more than half is cropped away: a_circle/strip.png, a_circle/wide.png" in imported.summary
    )
    large = load(host, bundled_model, tmp_path / "set", "folder names", width=96, height=32)
    assert large.rollout.groups()[0].latents().shape == (3, 16, 4, 12)
    assert large.rollout.groups()[0].image(2).size == (96, 32)
    with pytest.raises(InputError, match="width: 60 is not a multiple of 16"):
        load(host, bundled_model, tmp_path / "set", "folder names", width=60)


def test_groups_get_one_size(bundled_model, host, tmp_path):
    folder = folder_of(
        tmp_path, cat=[f"{n}.png" for n in range(1, 8)], dog=["1.png", "2.png", "3.png"],
        cow=["1.png", "2.png"],
    )  # fmt: skip
    imported = load(host, bundled_model, folder, "folder names", images_per_prompt=3)
    assert [prompt.text for prompt in imported.rollout.prompts] == ["cat", "dog"]
    assert "left out, with fewer than 3 pictures: cow" in imported.summary
    assert "cut to 3 pictures: cat (7)" in imported.summary
    cats = imported.rollout.groups()[0]
    for index, name in enumerate(("1.png", "4.png", "7.png")):
        assert cats.image(index).tobytes() == Image.open(folder / "cat" / name).tobytes()
    smallest = load(host, bundled_model, folder, "folder names").rollout
    assert (len(smallest.prompts), smallest.images_per_prompt) == (3, 2)
    with pytest.raises(InputError, match="no group has 8 pictures, the largest has 7"):
        load(host, bundled_model, folder, "folder names", images_per_prompt=8)


def counting(model, monkeypatch):
    """Return a list that grows by the number of images of each later call of ``encode_images``."""
    counts, encode = [], model.encode_images
    monkeypatch.setattr(model, "encode_images", lambda x: (counts.append(len(x)), encode(x))[1])
    return counts


def test_importing_again_encodes_nothing_and_a_change_makes_another_run(
    bundled_model, host, taste, monkeypatch
):
    first = load(host, bundled_model, taste)
    counts = counting(bundled_model, monkeypatch)
    again = load(host, bundled_model, taste)
    assert again.rollout.run.folder == first.rollout.run.folder
    assert again.reward.settings == first.reward.settings
    assert counts == []
    best, worst = taste / "one_red_circle" / "1.png", taste / "one_red_circle" / "4.png"
    best.rename(taste / "x")
    worst.rename(best)
    (taste / "x").rename(worst)
    other = load(host, bundled_model, taste).rollout
    assert other.run.folder != first.rollout.run.folder
    assert sum(counts) == 8
    record = json.loads((other.run.folder / "run.json").read_text())
    assert record["pictures"] == other.run.settings.source_digest


def test_a_cancelled_import_keeps_finished_groups(bundled_model, tmp_path, taste, monkeypatch):
    # Checks of 8 images, before encoding prompts, and before one group.
    host = RecordingHost(tmp_path / "output", cancel_after=10)
    with pytest.raises(Cancelled):
        load(host, bundled_model, taste)
    host.cancel_after = None
    counts = counting(bundled_model, monkeypatch)
    whole = load(host, bundled_model, taste).rollout
    assert counts == [4]
    assert [group.count() for group in whole.groups()] == [4, 4]


def test_a_group_encoded_in_several_batches_ends_up_in_one_file(
    bundled_model, host, taste, monkeypatch
):
    monkeypatch.setattr(bundled_model, "batch_size", lambda size: 3)
    counts = counting(bundled_model, monkeypatch)
    for group in load(host, bundled_model, taste).rollout.groups():
        assert [path.name for path in group.folder.glob("latents*")] == ["latents.safetensors"]
        assert len(group.latents()) == 4
    assert counts == [3, 1, 3, 1]


def test_an_image_that_changes_during_the_import_is_refused(bundled_model, host, taste):
    source = from_folder(taste, "caption files")
    save(taste / "one_red_circle" / "1.png", seed=5)
    with pytest.raises(InputError, match="changed while the pictures were being read"):
        import_groups(host, bundled_model, source, CONFIG)


def with_graph(path, graph, seed=0):
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", json.dumps(graph))
    save(path, seed=seed, pnginfo=info)


def graph(text, **more):
    return {
        "3": {"class_type": "KSampler", "inputs": {"positive": ["6", 0], "negative": ["7", 0]}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": text, "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}},
        **more,
    }


def test_prompts_come_from_comfyuis_metadata(bundled_model, host, tmp_path):
    for number, text in enumerate(["one star", "two stars"] * 2):
        with_graph(tmp_path / "ComfyUI" / f"ComfyUI_{number:05d}_.png", graph(text))
    imported = load(host, bundled_model, tmp_path / "ComfyUI", "PNG metadata")
    assert [prompt.text for prompt in imported.rollout.prompts] == ["one star", "two stars"]
    assert "4 pictures in 2 groups of 2" in imported.summary
    assert "give no order" in imported.summary


def test_metadata_without_a_single_prompt_is_reported(bundled_model, host, tmp_path):
    folder = tmp_path / "ComfyUI"
    linked = {"9": {"class_type": "PrimitiveString", "inputs": {"value": "a star"}},
              "8": {"class_type": "FluxGuidance", "inputs": {"conditioning": ["6", 0], "guidance": 3}},
              "5": {"class_type": "BasicGuider", "inputs": {"conditioning": ["8", 0]}}}  # fmt: skip
    with_graph(folder / "fine.png", graph(["9", 0], **linked))
    mixed = {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["7", 0]}}
    with_graph(folder / "mixed.png", graph("a star", **{"6": mixed}))
    second = {"class_type": "KSampler", "inputs": {"positive": ["7", 0]}}
    with_graph(folder / "two.png", graph("a star", **{"10": second}))
    circle = {"class_type": "FluxGuidance", "inputs": {"conditioning": ["6", 0]}}
    with_graph(folder / "circle.png", graph("a star", **{"6": circle}))
    with_graph(folder / "empty.png", {})
    save(folder / "none.png")
    with pytest.raises(InputError) as error:
        load(host, bundled_model, folder, "PNG metadata")
    reported = dict(line.split(": ", 1) for line in problems(error) if not line.startswith("'"))
    assert reported == {
        "mixed.png": "its positive prompt comes from a ConditioningCombine, which is not supported",
        "two.png": "its metadata has several prompts: 'a star', 'blurry'",
        "circle.png": "its positive prompt comes from a FluxGuidance, which is not supported",
        "empty.png": "its metadata has no sampler with a positive prompt",
        "none.png": "it has no ComfyUI metadata",
    }


def test_typed_prompts_go_to_the_folders_in_order(bundled_model, host, tmp_path):
    folder = folder_of(tmp_path, **{"2": ["a.png", "b.png"], "10": ["a.png", "b.png"]})
    imported = load(host, bundled_model, folder, "typed", "one star\n\ntwo stars")
    assert [prompt.text for prompt in imported.rollout.prompts] == ["one star", "two stars"]
    with pytest.raises(InputError) as error:
        load(host, bundled_model, folder, "typed", "one star")
    assert problems(error)[0] == "1 prompts are typed for 2 sub-folders (2, 10)"
    with pytest.raises(InputError, match="2 and 10 have the same prompt, 'a star'"):
        load(host, bundled_model, folder, "typed", "a star\na star")


def test_image_batches_of_the_graph_become_groups(bundled_model, host):
    noise = torch.rand(7, 64, 64, 3, generator=torch.Generator().manual_seed(0))
    source = from_images(
        [noise[:2], noise[2:3], noise[3:4]], ["one star", "two stars", "two stars"]
    )
    imported = import_groups(host, bundled_model, source, CONFIG).rollout
    assert imported.images_per_prompt == 2
    assert [prompt.text for prompt in imported.prompts] == ["one star", "two stars"]
    stored = torch.tensor(np.asarray(imported.groups()[1].image(1)) / 255)
    assert (stored - noise[3]).abs().max() < 0.003
    grey, clear = noise[4:5, ..., :1], torch.cat([noise[5:6], torch.zeros(1, 64, 64, 1)], 3)
    source = from_images([grey, clear], ["one star"])
    assert import_groups(host, bundled_model, source, CONFIG).rollout.images_per_prompt == 2
    with pytest.raises(InputError, match="2 prompts came for 3 batches of images"):
        from_images([noise] * 3, ["a", "b"])
    with pytest.raises(InputError, match="images: there are none"):
        from_images([noise[:0]], ["a"])
    with pytest.raises(InputError, match=r"its prompt is empty(.|\n)*not finite numbers"):
        import_groups(host, bundled_model, from_images([noise / 0], [" "]), CONFIG)


def test_only_folders_of_the_input_and_output_folder_are_listed(tmp_path, bundled_model):
    save(tmp_path / "secret" / "a" / "1.png")
    (tmp_path / "in" / "taste").mkdir(parents=True)
    (tmp_path / "in" / "away").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "taste" / "away").symlink_to(tmp_path / "secret" / "a")
    for name in ("gdro", "made", ".hidden"):
        (tmp_path / "out" / name).mkdir(parents=True)
    host = ConsoleHost(tmp_path / "out", quiet=True, input_dir=tmp_path / "in")
    assert set(host.model_files("pictures")) == {"taste", "made [output]"}
    stage = STAGES["GDRO_ImportGroups"]
    for name, message in (
        ("../secret", "is not among the folders of pictures"),
        ("away", "is not among the folders of pictures"),
        ("taste", "there are no pictures in 'taste'"),  # the link is not followed
        ("made [output]", "there are no pictures in 'made'"),
    ):
        source = {"source": "folder", "folder": name, "prompt_from": "folder names"}
        with pytest.raises(InputError, match=message):
            stage(host, model=bundled_model, source=source, images_per_prompt=0)
