"""The composition reward on shapes: its terms by hand, and drawn scenes."""

import random

import numpy as np
import pytest
import scenes
from PIL import Image, ImageFile

from gdro_comfy.data.prompts import Prompt, shipped
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import Reward, RewardError, create
from gdro_comfy.rewards.composition import CompositionReward, composition_terms, parse_include
from gdro_comfy.rewards.shapes import Detection


def thing(shape, color, x=30, y=30):
    return Detection(shape, color, (x - 5, y - 5, x + 5, y + 5), 1.0)


def values(prompt, things, strict=True):
    return [value for _, value in composition_terms(parse_include(prompt), things, strict)]


def test_every_term_is_1_where_everything_is_there():
    things = [thing("circle", "red", 10), thing("circle", "red", 20), thing("square", "blue", 50)]
    # Two numbers, two colours, one position, nothing else.
    assert values("two red circles left of one blue square", things) == [1, 1, 1, 1, 1, 1]


def test_number_is_one_minus_the_relative_error_floored_at_zero():
    for count, value in [(0, 0), (1, 1 / 3), (2, 2 / 3), (3, 1), (4, 2 / 3), (6, 0), (8, 0)]:
        (number, _) = values("three circles", [thing("circle", "red")] * count)
        assert number == pytest.approx(value)


def test_color_counts_the_asked_things_in_the_asked_color():
    red, blue = thing("circle", "red"), thing("circle", "blue")
    murky = thing("circle", None)
    assert values("two red circles", [red, blue]) == [1, 0.5, 1]
    assert values("two red circles", [blue, murky]) == [1, 0, 1]
    assert values("two red circles", [red, red, red]) == [0.5, 0.5, 1]
    assert values("two red circles", [red, red, blue]) == [0.5, 1, 1]


def test_entries_of_one_class_share_its_things():
    red, blue, green = (thing("circle", color) for color in ("red", "blue", "green"))
    prompt = "one red circle and two blue circles"
    # Number and colour of the red one, number and colour of the blue ones, nothing else.
    assert values(prompt, [blue, red, blue]) == [1, 1, 1, 1, 1]
    assert values(prompt, [blue, blue, blue]) == [1, 0, 1, 0.5, 1]
    # One too many, in a colour that was not asked for, counts against the larger number.
    assert values(prompt, [blue, red, green, blue]) == [1, 1, 0.5, 1, 1]
    # Another red one serves an entry without a colour.
    assert values("one red circle and one circle", [red, red]) == [1, 1, 1, 1]


def test_position_is_the_share_of_pairs_that_have_it():
    left, middle, right = (thing("circle", "red", x) for x in (10, 30, 50))
    square = thing("square", "blue", 40)
    prompt = "three circles left of one square"
    # Two of three pairs; the position belongs to the square, the later entry.
    assert values(prompt, [left, middle, right, square]) == pytest.approx([1, 1, 2 / 3, 1])
    assert values(prompt, [left, middle, right])[2] == 0
    below = thing("square", "blue", 30, 50)
    assert values("one circle above one square", [middle, below])[2] == 1
    assert values("one circle below one square", [middle, below])[2] == 0
    assert values("one circle right of one square", [middle, below])[2] == 0


def test_strict_counts_what_was_not_asked_for():
    circles = [thing("circle", "red")] * 2
    others = [thing("star", "red"), thing(None, "blue")]
    assert values("two circles", [*circles, others[0]]) == [1, 0.5]
    assert values("two circles", [*circles, *others]) == [1, 0]
    assert values("two circles", [*circles, *others], strict=False) == [1]


@pytest.mark.parametrize(
    ("text", "include"),
    [
        ("a red circle", [("circle", 1, "red")]),
        ("Two stars.", [("star", 2, None)]),
        ("circle", [("circle", 1, None)]),
        ("a picture of 3 blue squares", [("square", 3, "blue")]),
        (
            "a red circle, two stars and 12 squares",
            [("circle", 1, "red"), ("star", 2, None), ("square", 12, None)],
        ),
    ],
)
def test_plain_text_is_understood(text, include):
    entries = parse_include(text)
    assert [(e["class"], e["count"], e.get("color")) for e in entries] == include


@pytest.mark.parametrize(
    ("words", "position"),
    [
        ("left of", ["right of", 0]),
        ("to the right of", ["left of", 0]),
        ("is above", ["below", 0]),
        ("below", ["above", 0]),
    ],
)
def test_the_later_entry_has_the_position(words, position):
    first, second = parse_include(f"a star {words} a red circle")
    assert "position" not in first
    assert second["position"] == position


def test_text_and_include_of_the_shipped_prompts_agree():
    for name in ("shapes_train", "shapes_heldout"):
        prompts = shipped(name)
        CompositionReward().check_prompts(prompts.prompts)
        for prompt in prompts:
            assert parse_include(prompt.text) == prompt.include


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a photo of a cat", "'a cat'"),
        ("two red circles near a star", "near"),
        ("red circles", "no number"),
        ("0 stars", "no number"),
        ("00 stars", "no number"),
        ("a pink star", "'a pink star'"),
        ("a star and", "''"),
        ("", "''"),
    ],
)
def test_what_is_not_understood_is_named(text, words):
    with pytest.raises(InputError) as error:
        CompositionReward().check_prompts([Prompt("a star"), Prompt(text)])
    assert words in str(error.value)
    assert "purple" in str(error.value)


@pytest.mark.parametrize(
    "entry",
    [
        {"class": "cat", "count": 1},
        {"class": "star", "count": 1, "color": "pink"},
        {"class": "star", "count": 0},
        {"class": "star", "count": 1, "position": ["above", 0]},
    ],
)
def test_an_include_that_cannot_be_judged_is_refused(entry):
    with pytest.raises(InputError, match="two stars"):
        CompositionReward().check_prompts([Prompt("two stars", (entry,))])


def test_drawn_scenes_get_1_and_faulty_ones_less():
    rng = random.Random(0)
    reward = create("composition")
    assert isinstance(reward, Reward)
    images, prompts, faulty = [], [], []
    for _ in range(40):
        things, relation = scenes.random_things(rng)
        prompts.append(Prompt(scenes.shape_caption(things, relation)))
        images.append(scenes.draw_shapes(rng, things, relation, []))
        things[0].color = next(c for c in scenes.COLORS if c not in {t.color for t in things})
        faulty.append(scenes.draw_shapes(rng, things, relation, []))
    result = reward.score(images, prompts)
    assert result.values.dtype == np.float32
    assert result.values.shape == (40,)
    assert (result.values == 1).all()
    assert (reward.score(faulty, prompts).values < 1).all()


def test_details_explain_the_score():
    rng = random.Random(1)
    image = scenes.draw_shapes(rng, [scenes.Thing(2, "red", "star")], None, [])
    result = CompositionReward().score([image], [Prompt("one red star")])
    assert result.details == [
        {
            "found": "two red stars",
            "terms": [
                {"term": "one red star: number", "value": 0.0},
                {"term": "one red star: color", "value": 0.0},
                {"term": "nothing else", "value": 1.0},
            ],
        }
    ]
    assert result.values[0] == pytest.approx(1 / 3)
    empty = CompositionReward().score([Image.new("RGB", (64, 64), "white")], [Prompt("one star")])
    assert empty.details[0]["found"] == "nothing"


def test_an_unreadable_image_is_named(tmp_path):
    scenes.draw_shapes(random.Random(0), [scenes.Thing(1, "red", "star")], None, []).save(
        tmp_path / "whole.png"
    )
    broken = tmp_path / "broken.png"
    broken.write_bytes((tmp_path / "whole.png").read_bytes()[:300])
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
    with pytest.raises(RewardError, match="image 0 of 'one star'"):
        CompositionReward().score([Image.open(broken)], [Prompt("one star")])


def test_cancelling_takes_effect_before_every_image():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 2:
            raise Stop

    images = [Image.new("RGB", (64, 64), "white")] * 3
    with pytest.raises(Stop):
        CompositionReward().score(images, [Prompt("one star")] * 3, check)


def test_unknown_rewards_and_settings_are_refused():
    with pytest.raises(InputError, match="composition, installed, ocr"):
        create("beauty")
    with pytest.raises(InputError, match="strict"):
        create("composition", strictness=1)
