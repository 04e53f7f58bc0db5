"""Things in photographs: GenEval's rules by hand, and detectors on tiny random weights."""

import numpy as np
import pytest
from PIL import Image
from tiny_judges import save_clip, save_dino, save_owl

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import create
from gdro_comfy.rewards.composition_prompts import parse_nouns, singular
from gdro_comfy.rewards.detection import PhotoDetector, keep_distinct, stands
from gdro_comfy.rewards.preference import prepare
from gdro_comfy.rewards.shapes import Detection


def thing(name, box, color=None):
    return Detection(name, color, box, 0.9)


class Found(PhotoDetector):
    """A detector that finds what it is told to; the rest is the reward's own."""

    def __init__(self, *things):
        super().__init__("nowhere")
        self.things = things

    def check(self):
        pass

    def find(self, image, entries):
        asked = {entry["class"] for entry in entries}
        return [t for t in self.things if t.shape in asked]


def value(prompt, *things):
    prompt = Prompt(prompt) if isinstance(prompt, str) else Prompt.from_json(prompt)
    reward = create("composition", detector=Found(*things))
    reward.check_prompts([prompt])
    result = reward.score([Image.new("RGB", (100, 100))], [prompt])
    return float(result.values[0]), {
        row["term"]: row["value"] for row in result.details[0]["terms"]
    }


@pytest.mark.parametrize(
    ("a", "b", "relations"),
    [
        ((0, 0, 10, 10), (50, 0, 60, 10), {"left of"}),
        ((50, 0, 60, 10), (0, 0, 10, 10), {"right of"}),
        ((0, 0, 10, 10), (0, 50, 10, 60), {"above"}),
        ((0, 0, 10, 10), (50, 50, 60, 60), {"left of", "above"}),
        (
            (0, 0, 10, 10),
            (1, 0, 11, 10),
            set(),
        ),  # a tenth of both widths is 2, the centres differ by 1
        ((0, 0, 100, 100), (20, 0, 120, 100), set()),  # 20 apart, and 20 do not count
        ((0, 0, 100, 100), (50, 0, 150, 100), {"left of"}),  # 30 of 50 are beyond
        ((0, 0, 100, 100), (38, 0, 138, 100), set()),  # 18 of 38 are less than half
        ((0, 0, 10, 10), (0, 0, 10, 10), set()),
    ],
)
def test_where_things_stand_by_geneval_rule(a, b, relations):
    held = {
        relation
        for relation in ("left of", "right of", "above", "below")
        if stands(relation, thing("x", a), thing("y", b))
    }
    assert held == relations


def test_a_thing_seen_twice_counts_once():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 5, 10, 15]], float)
    assert keep_distinct(boxes, np.array([0.5, 0.9, 0.3, 0.8])) == [1, 3, 2]
    assert keep_distinct(np.zeros((0, 4)), np.zeros(0)) == []


def test_the_reward_by_hand():
    apples = [thing("apple", (x, 0, x + 10, 10), "red") for x in (0, 15)]
    cup = thing("cup", (60, 0, 70, 10))
    asked = "a photo of two red apples left of a cup"
    assert value(asked, *apples, cup)[0] == 1
    score, terms = value(asked, apples[0], cup)
    assert terms["two red apples: number"] == 0.5
    assert terms["two red apples: color"] == 0.5
    assert score == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert value(asked)[0] == 0


def test_prompts_in_the_form_of_geneval():
    row = {
        "tag": "counting",
        "include": [{"class": "clock", "count": 2}],
        "exclude": [{"class": "clock", "count": 3}, {"class": "cat", "count": 1}],
        "prompt": "a photo of two clocks",
    }
    clocks = [thing("clock", (20 * i, 0, 20 * i + 10, 10)) for i in range(3)]
    assert value(row, *clocks[:2]) == (1, {"two clocks: number": 1, "no cat": 1})
    assert value(row, *clocks, thing("cat", (0, 50, 9, 60)))[1] == {
        "two clocks: number": 0.5,
        "no cat": 0,
    }


@pytest.mark.parametrize(
    ("text", "include"),
    [
        ("A photo of a bench.", [{"class": "bench", "count": 1}]),
        ("four fire trucks", [{"class": "fire truck", "count": 4}]),
        ("12 sheep", [{"class": "sheep", "count": 12}]),
        (
            "two red apples left of a cup",
            [
                {"class": "apple", "count": 2, "color": "red"},
                {"class": "cup", "count": 1, "position": ["right of", 0]},
            ],
        ),
        (
            "a photo of a dog to the right of a teddy bear and an orange",
            [
                {"class": "dog", "count": 1},
                {"class": "teddy bear", "count": 1, "position": ["left of", 0]},
                {"class": "orange", "count": 1},
            ],
        ),
    ],
)
def test_plain_prompts(text, include):
    assert list(parse_nouns(text)) == include


@pytest.mark.parametrize(
    "text", ["", "a cup on a table", "0 cups", "the dog", "many cats", "🦊", "a dog that sits"]
)
def test_prompts_that_say_more_are_refused(text):
    with pytest.raises(InputError, match="not understood|no number"):
        parse_nouns(text)


def test_one_of_several():
    pairs = {
        "knives": "knife",
        "buses": "bus",
        "cherries": "cherry",
        "people": "person",
        "wine glasses": "wine glass",
        "toothbrushes": "toothbrush",
        "vases": "vase",
        "horses": "horse",
        "houses": "house",
        "boxes": "box",
        "cups": "cup",
        "gloves": "glove",
        "grass": "grass",
        "sheep": "sheep",
        "pies": "pie",
    }
    assert {many: singular(many) for many in pairs} == pairs


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    return {
        "owlv2": save_owl(root / "owl"),
        "grounding-dino": save_dino(root / "dino"),
        "clip": save_clip(root / "clip"),
    }


def picture(seed, size=(60, 40)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["owlv2", "grounding-dino"])
def test_detectors_on_random_weights(kind, folders):
    detector = PhotoDetector(folders[kind], folders["clip"], threshold=0.01)
    entries = [{"class": "fire truck", "color": "red"}, {"class": "dog"}]
    for size in ((60, 40), (1, 1), (2048, 16)):
        found = detector.find(picture(0, size), entries)
        assert found
        assert found == detector.find(picture(0, size), entries)
        for one in found:
            left, top, right, bottom = one.box
            assert 0 <= left <= right <= size[0]
            assert 0 <= top <= bottom <= size[1]
            assert 0.01 <= one.confidence <= 1
            assert (one.color is not None) == (one.shape == "fire truck")
    sure = max(one.confidence for one in found)
    surest = PhotoDetector(folders[kind], folders["clip"], sure).find(picture(0, size), entries)
    assert 1 <= len(surest) < len(found)
    assert {one.confidence for one in surest} == {sure}


@pytest.mark.parametrize("kind", ["owlv2", "grounding-dino"])
def test_boxes_are_those_of_transformers(kind, folders):
    """Against the post-processing that comes with each model."""
    import torch
    from transformers import AutoProcessor

    detector = PhotoDetector(folders[kind], folders["clip"])
    detector.check()
    image, classes = picture(1), ["dog", "fire truck"]
    boxes, scores = detector._boxes(image, classes)
    processor = AutoProcessor.from_pretrained(folders[kind])
    owl = kind == "owlv2"
    if owl:  # its own preparation needs scipy; the square is checked by the boxes' scale
        square = Image.new("RGB", (60, 60), (128, 128, 128))
        square.paste(image)
        words = [f"a photo of a {name}" for name in classes]
        inputs = processor.tokenizer(
            words, padding="max_length", max_length=32, return_tensors="pt"
        )
        inputs = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        inputs["pixel_values"] = torch.from_numpy(prepare(square, 32, whole=False))[None]
    else:
        inputs = processor(text=["dog. fire truck."], images=[image], return_tensors="pt")
    with detector._finder.active() as network:
        outputs = network(**inputs)
    size = torch.tensor([[60, 60] if owl else [40, 60]])
    given = {"outputs": outputs, "threshold": -1.0, "target_sizes": size}
    if not owl:
        given["input_ids"] = inputs["input_ids"]
        given["text_threshold"] = 0.0
    official = processor.post_process_grounded_object_detection(**given)[0]
    expected = np.clip(official["boxes"].numpy(), 0, [60, 40, 60, 40])
    assert np.sort(boxes, 0) == pytest.approx(np.sort(expected, 0), abs=0.1)
    if owl:
        assert np.sort(scores.max(1)) == pytest.approx(
            np.sort(official["scores"].numpy()), abs=1e-4
        )


def test_another_network_is_refused(folders):
    with pytest.raises(InputError, match="is a clip"):
        PhotoDetector(folders["clip"], folders["clip"]).check()


def test_nothing_is_fetched_unless_asked_for(host, monkeypatch):
    from gdro_comfy.stages import STAGES
    from gdro_comfy.stages.inputs import complete, nest

    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it went to the network"))
    stage = STAGES["GDRO_CompositionReward"]
    flat = {"strict": True, "detector": "OWLv2"}
    (reward,) = stage(host, **complete(stage.inputs, nest(stage.inputs, flat)))
    with pytest.raises(InputError, match="Switch download on"):
        reward.check_prompts([Prompt("a dog")])
    (shapes,) = stage(host, **complete(stage.inputs, {"strict": True}))
    assert shapes.settings == {"strict": True}
