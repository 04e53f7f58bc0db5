"""Things in photographs: GenEval's rules by hand, and detectors with tiny random weights."""

import numpy as np
import pytest
from PIL import Image
from tiny_judges import save_clip, save_dino, save_owl

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import RewardError, create
from gdro_comfy.rewards.composition_prompts import parse_nouns, singular
from gdro_comfy.rewards.detection import PhotoDetector, non_maximum_suppression, position_by_boxes
from gdro_comfy.rewards.preference import preprocess
from gdro_comfy.rewards.shapes import Detection


def thing(name, box, color=None):
    return Detection(name, color, box, 0.9)


class FixedDetector(PhotoDetector):
    """A detector that finds these things in every image, if it is asked for them."""

    def __init__(self, *things):
        super().__init__("nowhere")
        self.things = things

    def check(self):
        pass

    def detect(self, image, entries):
        asked = {entry["class"] for entry in entries}
        return [t for t in self.things if t.shape in asked]


def score(prompt, *things):
    """Return the reward of an image with these things, and its terms."""
    prompt = Prompt(prompt) if isinstance(prompt, str) else Prompt.from_json(prompt)
    reward = create("composition", detector=FixedDetector(*things))
    reward.check_prompts([prompt])
    result = reward.score([Image.new("RGB", (100, 100))], [prompt])
    terms = {row["term"]: row["value"] for row in result.details[0]["terms"]}
    return float(result.values[0]), terms


@pytest.mark.parametrize(
    ("a", "b", "relations"),
    [
        ((0, 0, 10, 10), (50, 0, 60, 10), {"left of"}),
        ((50, 0, 60, 10), (0, 0, 10, 10), {"right of"}),
        ((0, 0, 10, 10), (0, 50, 10, 60), {"above"}),
        ((0, 0, 10, 10), (50, 50, 60, 60), {"left of", "above"}),
        # The centres differ by 1, and a tenth of both widths, 2, does not count.
        ((0, 0, 10, 10), (1, 0, 11, 10), set()),
        # The centres differ by 20, and 20 do not count; then 30 of 50 do; then 18 of 38, less than half.
        ((0, 0, 100, 100), (20, 0, 120, 100), set()),
        ((0, 0, 100, 100), (50, 0, 150, 100), {"left of"}),
        ((0, 0, 100, 100), (38, 0, 138, 100), set()),
        ((0, 0, 10, 10), (0, 0, 10, 10), set()),
    ],
)
def test_positions_follow_geneval_s_rule(a, b, relations):
    held = {
        relation
        for relation in ("left of", "right of", "above", "below")
        if position_by_boxes(relation, thing("x", a), thing("y", b))
    }
    assert held == relations


def test_a_thing_seen_twice_counts_once():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10], [0, 5, 10, 15]], float)
    assert non_maximum_suppression(boxes, np.array([0.5, 0.9, 0.3, 0.8])) == [1, 3, 2]
    assert non_maximum_suppression(np.zeros((0, 4)), np.zeros(0)) == []


def test_scores_by_hand():
    apples = [thing("apple", (x, 0, x + 10, 10), "red") for x in (0, 15)]
    cup = thing("cup", (60, 0, 70, 10))
    prompt = "a photo of two red apples left of a cup"
    assert score(prompt, *apples, cup)[0] == 1
    value, terms = score(prompt, apples[0], cup)
    assert terms["two red apples: number"] == 0.5
    assert terms["two red apples: color"] == 0.5
    assert value == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)
    assert score(prompt)[0] == 0


def test_prompts_in_geneval_s_form():
    row = {
        "tag": "counting",
        "include": [{"class": "clock", "count": 2}],
        "exclude": [{"class": "clock", "count": 3}, {"class": "cat", "count": 1}],
        "prompt": "a photo of two clocks",
    }
    clocks = [thing("clock", (20 * i, 0, 20 * i + 10, 10)) for i in range(3)]
    assert score(row, *clocks[:2]) == (1, {"two clocks: number": 1, "no cat": 1})
    assert score(row, *clocks, thing("cat", (0, 50, 9, 60)))[1] == {
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
def test_plain_prompts_are_understood(text, include):
    assert list(parse_nouns(text)) == include


@pytest.mark.parametrize(
    "text",
    ["", "a cup on a table", "0 cups", "00 cups", "the dog", "many cats", "🦊", "a dog that sits"],
)
def test_prompts_that_say_more_or_less_are_refused(text):
    with pytest.raises(InputError, match="not understood|no number"):
        parse_nouns(text)


@pytest.mark.parametrize(
    ("text", "include"),
    [
        ("twelve eggs", [{"class": "egg", "count": 12}]),
        ("twenty red apples", [{"class": "apple", "count": 20, "color": "red"}]),
        ("a dozen eggs", [{"class": "egg", "count": 12}]),
        ("three skises", [{"class": "skis", "count": 3}]),
        ("a potted plant and a traffic light", [{"class": "potted plant", "count": 1},
                                                {"class": "traffic light", "count": 1}]),
        ("a black bear", [{"class": "bear", "count": 1, "color": "black"}]),
        ("a dining table, two washing machines", [{"class": "dining table", "count": 1},
                                                  {"class": "washing machine", "count": 2}]),
    ],
)  # fmt: skip
def test_numbers_and_names_of_two_words(text, include):
    assert list(parse_nouns(text)) == include


@pytest.mark.parametrize(
    "text",
    [
        "a black and white cat", "a red and green apple", "a gray cat", "a dark blue car",
        "a light pink rose", "two dogs and cats", "a dog and cats", "salt and pepper shakers",
        "a dogs", "dogs", "a couple dogs",
        "a photo of a dog, masterpiece, best quality", "a dog, a masterpiece", "a dog running",
        "a running dog", "two girls cooked dinner", "eight phones rang simultaneously", "a dog barks",
        "two glasses", "thirty dogs", "a hundred dogs", "four bears and two stools provided seating",
    ],
)  # fmt: skip
def test_what_is_no_list_of_things_is_refused_with_the_prompt(text):
    with pytest.raises(InputError, match=f"in {text!r} (is not understood|has no number)"):
        parse_nouns(text)


def test_singulars():
    singulars = {
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
    assert {plural: singular(plural) for plural in singulars} == singulars


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("detectors")
    return {
        "owlv2": save_owl(root / "owl"),
        "grounding-dino": save_dino(root / "dino"),
        "clip": save_clip(root / "clip"),
    }


def random_image(seed, size=(60, 40)):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("kind", ["owlv2", "grounding-dino"])
def test_detectors_with_random_weights(kind, folders):
    detector = PhotoDetector(folders[kind], folders["clip"], threshold=0.01)
    entries = [{"class": "fire truck", "color": "red"}, {"class": "dog"}]
    for size in ((60, 40), (1, 1), (2048, 16)):
        detections = detector.detect(random_image(0, size), entries)
        assert detections
        assert detections == detector.detect(random_image(0, size), entries)
        for detection in detections:
            left, top, right, bottom = detection.box
            assert 0 <= left <= right <= size[0]
            assert 0 <= top <= bottom <= size[1]
            assert 0.01 <= detection.confidence <= 1
            assert (detection.color is not None) == (detection.shape == "fire truck")
    highest = max(detection.confidence for detection in detections)
    detector = PhotoDetector(folders[kind], folders["clip"], threshold=highest)
    surest = detector.detect(random_image(0, size), entries)
    assert 1 <= len(surest) < len(detections)
    assert {detection.confidence for detection in surest} == {highest}


@pytest.mark.parametrize("kind", ["owlv2", "grounding-dino"])
def test_a_broken_detector_does_not_find_nothing(kind, folders):
    import torch

    detector = PhotoDetector(folders[kind], folders["clip"])
    with detector._detector.active() as network:
        for weight in network.parameters():
            weight.fill_(torch.nan)
    reward = create("composition", detector=detector)
    with pytest.raises(RewardError, match="image 0 of 'a dog' cannot be read.* are not finite"):
        reward.score([random_image(0)], [Prompt("a dog")])


@pytest.mark.parametrize("kind", ["owlv2", "grounding-dino"])
def test_boxes_are_those_of_transformers(kind, folders):
    """Compare with the post-processing that comes with each model."""
    import torch
    from transformers import AutoProcessor

    detector = PhotoDetector(folders[kind], folders["clip"])
    detector.check()
    image, classes = random_image(1), ["dog", "fire truck"]
    boxes, scores = detector._boxes(image, classes)
    processor = AutoProcessor.from_pretrained(folders[kind])
    owlv2 = kind == "owlv2"
    if owlv2:  # its own preparation needs scipy; the scale of the boxes checks the square
        square = Image.new("RGB", (60, 60), (128, 128, 128))
        square.paste(image)
        phrases = [f"a photo of a {name}" for name in classes]
        inputs = processor.tokenizer(
            phrases, padding="max_length", max_length=32, return_tensors="pt"
        )
        inputs = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        inputs["pixel_values"] = torch.from_numpy(preprocess(square, 32))[None]
    else:
        inputs = processor(text=["dog. fire truck."], images=[image], return_tensors="pt")
    with detector._detector.active() as network:
        outputs = network(**inputs)
    size = torch.tensor([[60, 60] if owlv2 else [40, 60]])
    arguments = {"outputs": outputs, "threshold": -1.0, "target_sizes": size}
    if not owlv2:
        arguments["input_ids"] = inputs["input_ids"]
        arguments["text_threshold"] = 0.0
    official = processor.post_process_grounded_object_detection(**arguments)[0]
    expected = np.clip(official["boxes"].numpy(), 0, [60, 40, 60, 40])
    assert np.sort(boxes, 0) == pytest.approx(np.sort(expected, 0), abs=0.1)
    if owlv2:
        assert np.sort(scores.max(1)) == pytest.approx(
            np.sort(official["scores"].numpy()), abs=1e-4
        )


def test_missing_weights_are_reported_as_such(folders, tmp_path):
    for file in folders["owlv2"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    reward = create("composition", detector=PhotoDetector(tmp_path, folders["clip"]))
    with pytest.raises(InputError, match="detector: .* cannot be loaded"):
        reward.score([random_image(0)], [Prompt("a dog")])


def test_another_network_is_refused(folders):
    with pytest.raises(InputError, match="is a clip"):
        PhotoDetector(folders["clip"], folders["clip"]).check()


def test_nothing_is_downloaded_unless_allowed(host, monkeypatch):
    from gdro_comfy.stages import STAGES
    from gdro_comfy.stages.inputs import complete, nest

    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("it used the network"))
    stage = STAGES["GDRO_CompositionReward"]
    flat = {"strict": True, "detector": "OWLv2"}
    (reward,) = stage(host, **complete(stage.inputs, nest(stage.inputs, flat)))
    with pytest.raises(InputError, match="Switch download on"):
        reward.check_prompts([Prompt("a dog")])
    (shapes,) = stage(host, **complete(stage.inputs, {"strict": True}))
    assert shapes.settings == {"strict": True}
