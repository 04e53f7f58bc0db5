"""Similarity to references: palettes by hand, networks with tiny random weights, and what is refused."""

import numpy as np
import pytest
import torch
from drawn_pictures import drawn
from PIL import Image
from recording_host import RecordingHost

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import create, palette
from gdro_comfy.rewards.image_embeddings import ImageEmbedder
from gdro_comfy.rewards.similarity import Embedding, Palette, read_references
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.inputs import complete, nest

SIDE = 32
VIT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def plain(*colour, size=(32, 32)):
    return Image.new("RGB", size, colour)


def tensor(*images):
    return torch.stack([torch.from_numpy(np.array(image)).float() / 255 for image in images])


def score(references, images, comparison=None, **settings):
    reward = create(
        "similarity", references=references, comparison=comparison or Palette(), **settings
    )
    return reward.score(images, [Prompt("anything")] * len(images))


def networks():
    import transformers as t

    size = {"image_size": SIDE, "patch_size": 8}
    tiny = {
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**VIT, **size)),
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(projection_dim=16, vision_config={**VIT, **size}, text_config=VIT)
        ),
        "siglip": lambda: t.SiglipModel(
            t.SiglipConfig(vision_config={**VIT, **size}, text_config={**VIT, "vocab_size": 99})
        ),
    }
    if hasattr(t, "DINOv3ViTModel"):
        tiny["dinov3"] = lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**VIT, **size))
    if hasattr(t, "Dinov2WithRegistersModel"):
        tiny["registers"] = lambda: t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(**VIT, **size)
        )
    return tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("embedders")
    for name, make in networks().items():
        torch.manual_seed(0)
        network = make()
        for weight in network.parameters():
            torch.nn.init.normal_(weight, std=0.2)
        network.save_pretrained(root / name)
    return root


def test_colours_by_hand():
    # From the table of Ottosson's article: white, and pure red.
    assert palette.oklab(np.ones(3)) == pytest.approx([100, 0, 0], abs=0.01)
    assert palette.oklab(np.array([1.0, 0, 0])) == pytest.approx([62.8, 22.5, 12.6], abs=0.1)


def test_two_plain_pictures_are_apart_by_the_mean_over_directions():
    black, white = (palette.palette(plain(v, v, v))[None] for v in (0, 255))
    # 100 along lightness, 1/sqrt(2) of it on four diagonals, 1/sqrt(3) on four more, 0 on four.
    distance = 100 * (1 + 4 / 2**0.5 + 4 / 3**0.5) / 13
    assert palette.similarity(black, white)[0, 0] == pytest.approx(
        1 / (1 + distance / palette.HALF)
    )
    assert palette.similarity(white, white)[0, 0] == 1


def test_a_palette_does_not_depend_on_places_or_size():
    left = Image.new("RGB", (64, 64), (200, 30, 30))
    left.paste((20, 20, 90), (0, 0, 32, 64))
    right = left.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    assert score([left], [right, left.resize((512, 512))]).values == pytest.approx(1, abs=0.01)
    mostly = Image.new("RGB", (64, 64), (200, 30, 30))
    mostly.paste((20, 20, 90), (0, 0, 8, 64))
    assert score([left], [mostly]).values[0] < 0.8


def test_a_tint_is_less_alike_the_stronger_it_is():
    picture = drawn(3, 64)
    tints = [
        Image.blend(picture, plain(250, 160, 60, size=(64, 64)), a) for a in (0, 0.2, 0.4, 0.8)
    ]
    values = score([picture], tints).values
    assert (np.diff(values) < -0.05).all()


def test_several_references_by_mean_or_nearest():
    references, image = [plain(255, 255, 255), plain(0, 0, 0)], plain(250, 250, 250)
    single = [score([one], [image]).values[0] for one in references]
    assert score(references, [image]).values[0] == pytest.approx(np.mean(single))
    result = score(references, [image], several="nearest")
    assert result.values[0] == pytest.approx(max(single))
    assert result.details == [{"similarity": round(float(max(single)), 4), "nearest": 1}]


def test_the_goals_by_hand():
    references, image = [plain(255, 255, 255), plain(0, 0, 0)], plain(230, 230, 230)
    nearest = score(references, [image], several="nearest").values[0]
    assert score(references, [image], goal="not like these").values[0] == pytest.approx(1 - nearest)
    bands = {
        (nearest - 0.1, nearest + 0.1): 1.0,
        (nearest + 0.1, 0.99): nearest / (nearest + 0.1),
        (0.1, nearest - 0.1): (1 - nearest) / (1 - nearest + 0.1),
    }
    for band, value in bands.items():
        result = score(references, [image], goal="like, but no copy", band=band)
        assert result.values[0] == pytest.approx(value, abs=1e-5)
    assert score([image], [image], goal="like, but no copy").values[0] == 0


@pytest.mark.parametrize("name", networks())
def test_networks_compare_what_they_see(folders, name):
    pictures = [drawn(seed, 48) for seed in range(3)]
    embedder = ImageEmbedder(folders / name)
    result = score(pictures[:2], pictures, Embedding(embedder), several="nearest")
    assert result.values[:2] == pytest.approx(1, abs=1e-5)
    assert [row["nearest"] for row in result.details[:2]] == [1, 2]
    assert 0 <= result.values[2] < 1
    vectors = embedder.embed(pictures)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    cosine = max(vectors[2] @ vectors[0], vectors[2] @ vectors[1])
    assert result.values[2] == pytest.approx((1 + cosine) / 2, abs=1e-5)
    assert embedder._network.loaded


def by_hand(folder, image, kind):
    """The embedding by transformers' own classes and plain arithmetic, for an image of the right size."""
    import transformers as t

    statistics = {
        "dinov2": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
        "siglip": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    }
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in statistics[kind])
    pixels = (tensor(image).permute(0, 3, 1, 2) - mean) / deviation
    if kind == "clip":
        clip = t.CLIPModel.from_pretrained(folder / kind)
        vector = clip.visual_projection(clip.vision_model(pixels).pooler_output)
    elif kind == "siglip":
        vector = t.SiglipModel.from_pretrained(folder / kind).vision_model(pixels).pooler_output
    else:
        network = t.Dinov2Model.from_pretrained(folder / kind)
        vector = network(pixels).last_hidden_state[:, 0]  # the class token
    return (vector / vector.norm(dim=1, keepdim=True)).detach().numpy()


@pytest.mark.parametrize("kind", ["dinov2", "clip", "siglip"])
def test_embeddings_agree_with_transformers(folders, kind):
    image = drawn(5, SIDE)
    assert ImageEmbedder(folders / kind).embed([image]) == pytest.approx(
        by_hand(folders, image, kind), abs=1e-5
    )


def test_transparent_parts_are_white_for_networks_and_no_colour_of_a_palette(folders):
    half = Image.new("RGBA", (64, 64), (10, 200, 10, 255))
    half.paste((90, 0, 90, 0), (0, 0, 32, 64))
    assert score([half], [plain(10, 200, 10)]).values[0] == pytest.approx(1)
    white = Image.new("RGB", (64, 64), (10, 200, 10))
    white.paste("white", (0, 0, 32, 64))
    embedding = Embedding(ImageEmbedder(folders / "siglip"))
    assert score([half], [white], embedding).values[0] == pytest.approx(1, abs=1e-6)


def test_a_network_of_another_kind_is_refused_before_any_work(tmp_path):
    import transformers as t

    t.BertConfig(**VIT).save_pretrained(tmp_path / "bert")
    reward = create(
        "similarity",
        references=[plain(1, 2, 3)],
        comparison=Embedding(ImageEmbedder(tmp_path / "bert")),
    )
    with pytest.raises(
        InputError, match="folder: .*of the kind bert, which does not describe images"
    ):
        reward.check_prompts([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"folder: .*empty cannot be loaded"):
        ImageEmbedder(tmp_path / "empty").check()


def test_weights_on_the_hub_are_not_fetched_unasked(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    with pytest.raises(InputError, match="compare: nobody/nothing is not on this machine"):
        ImageEmbedder("nobody/nothing", input_name="compare").check()


def test_references_come_in_batches_and_lists_and_count_once():
    white, black = plain(255, 255, 255), plain(0, 0, 0, size=(48, 20))
    found = read_references([tensor(white, white), tensor(black), tensor(white)])
    assert [image.size for image in found] == [(32, 32), (48, 20)]
    assert read_references([torch.full((1, 16, 16, 1), 0.5)])[0].getpixel((0, 0)) == (128,) * 3


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "there is no image"),
        ([torch.zeros(0, 32, 32, 3)], "there is no image"),
        ([torch.zeros(1, 32, 32, 3), torch.zeros(1, 15, 32, 3)], "image 2 has 32 x 15 pixels"),
        ([torch.full((1, 32, 32, 3), float("nan"))], "image 1 has values that are no numbers"),
        ([torch.zeros(1, 32, 32, 4)], "image 1 is transparent throughout"),
    ],
)
def test_references_that_cannot_be_used_are_named(batches, message):
    with pytest.raises(InputError, match=f"references: {message}"):
        read_references(batches)


def test_two_hundred_references_are_fine():
    references = read_references([tensor(*(drawn(seed, 32) for seed in range(200)))])
    assert len(references) == 200
    result = score(references, [drawn(150, 32)], several="nearest")
    assert result.details == [{"similarity": 1.0, "nearest": 151}]


def test_scores_belong_to_the_references_and_the_goal():
    def settings(*references, **more):
        return create("similarity", references=references, comparison=Palette(), **more).settings

    white, black = plain(255, 255, 255), plain(0, 0, 0)
    assert settings(white) == settings(white)
    different = [settings(white), settings(black), settings(white, goal="not like these"),
                 settings(white, several="nearest"), settings(white, goal="like, but no copy")]  # fmt: skip
    assert all(a != b for i, a in enumerate(different) for b in different[:i])


@pytest.mark.parametrize("band", [(0.9, 0.6), (0.5, 0.5), (0, 0.5), (0.5, 1)])
def test_an_empty_band_is_refused(band):
    with pytest.raises(InputError, match="goal: a band from"):
        create(
            "similarity", references=[plain(0, 0, 0)], comparison=Palette(),
            goal="like, but no copy", band=band,
        )  # fmt: skip


def node(host, flat, images):
    stage = STAGES["GDRO_SimilarityReward"]
    return stage(host, **complete(stage.inputs, nest(stage.inputs, {"references": images, **flat})))


def test_the_node_compares_palettes_without_weights(host):
    flat = {"compare": "palette", "goal": "like these", "goal.several": "nearest"}
    reward, summary = node(host, flat, [tensor(plain(255, 255, 255), plain(0, 0, 0))])
    assert summary.startswith("2 references, alike among themselves by 0.17 on average")
    assert reward.score([plain(255, 255, 255)], [Prompt("")]).values[0] == pytest.approx(1)


def test_the_node_loads_a_network_from_a_folder(folders, tmp_path):
    class Host(RecordingHost):
        def model_files(self, kind):
            return {"dino": folders / "dinov2"} if kind == "judges" else {}

    flat = {"compare": "local folder", "compare.folder": "dino", "goal": "like, but no copy",
            "goal.at_least": 0.2, "goal.at_most": 0.99}  # fmt: skip
    reward, summary = node(Host(tmp_path), flat, [tensor(drawn(1, 40))])
    assert summary == "1 reference."
    assert reward.score([drawn(1, 40)], [Prompt("")]).values[0] == pytest.approx(0, abs=1e-3)
