"""Image quality: each measure grows with its own damage, and what an image shows hardly moves it."""

import numpy as np
import pytest
from drawn_pictures import (
    as_jpeg,
    blurred,
    checkered,
    contrasted,
    drawn,
    noisy,
    saturated,
    seamed,
)
from PIL import Image

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import create
from gdro_comfy.rewards.base import RewardError
from gdro_comfy.rewards.guard import guard_scale
from gdro_comfy.rewards.quality import MEASURES, measure
from gdro_comfy.stages import STAGES

DAMAGES = [
    ("blur", blurred, (0.5, 1, 2, 4)),
    ("noise", noisy, (2, 4, 8, 16, 32)),
    ("blockiness", as_jpeg, (80, 60, 30, 10)),
    ("grid", checkered, (1, 2, 4, 7)),
    ("grid", seamed, (2, 4, 8)),
    ("grid", lambda image, levels: checkered(image, levels, 8), (1, 3, 7)),
    ("high frequency", checkered, (8, 16, 32)),
    ("high frequency", noisy, (16, 32, 64)),
    ("saturation", saturated, (1.5, 2, 3)),
    ("clipping", contrasted, (1.5, 2, 3)),
]


@pytest.fixture(scope="module", params=[64, 256])
def pictures(request):
    return [drawn(seed, request.param) for seed in range(8)]


def score(images, name="all"):
    return create("quality", measure=name).score(images, [Prompt("anything")] * len(images))


@pytest.mark.parametrize(("name", "damage", "amounts"), DAMAGES)
def test_a_measure_grows_with_its_damage_in_every_picture(pictures, name, damage, amounts):
    rows = np.array(
        [
            [measure(one, [name])[name] for one in (p, *(damage(p, a) for a in amounts))]
            for p in pictures
        ]
    )
    assert (np.diff(rows.mean(0)) > 0).all()
    # Single pictures too, but for steps so small that what they show may hide them.
    assert (np.diff(rows[:, 1:], axis=1) > -0.04 * np.ptp(rows)).all()
    assert (rows[:, -1] > rows[:, 0]).all()


@pytest.mark.parametrize(("name", "damage", "amounts"), DAMAGES)
def test_damage_moves_a_measure_further_than_contents_do(pictures, name, damage, amounts):
    clean = [measure(p, [name])[name] for p in pictures]
    worst = [measure(damage(p, amounts[-1]), [name])[name] for p in pictures]
    assert np.mean(worst) - np.mean(clean) > 2 * np.std(clean)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: blurred(p, 2),
        lambda p: noisy(p, 8),
        lambda p: as_jpeg(p, 20),
        lambda p: checkered(p, 2),
        lambda p: seamed(p, 6),
        lambda p: saturated(p, 2),
        lambda p: contrasted(p, 2),
    ],
)
def test_every_damage_lowers_the_mean_of_all(pictures, damage):
    clean, damaged = score(pictures).values, score([damage(p) for p in pictures]).values
    assert (damaged < clean).mean() >= 0.85
    assert (clean - damaged).mean() > 0.02


def test_the_measures_are_in_their_units():
    grey = Image.new("RGB", (256, 256), (128, 128, 128))
    assert all(value == 0 for value in measure(grey).values())
    assert measure(noisy(grey, 5))["noise"] == pytest.approx(5, rel=0.05)
    # A checkerboard of 3 levels differs from its neighbours' mean by 6 and from its own by 3.
    assert measure(checkered(grey, 3))["grid"] == pytest.approx(6, rel=0.01)
    assert measure(noisy(grey, 20))["high frequency"] == pytest.approx(3, rel=0.1)
    halves = Image.new("RGB", (256, 256))
    halves.paste((255, 255, 255), (128, 0, 256, 256))
    assert measure(halves)["blur"] == pytest.approx(0, abs=1e-6)
    red = Image.new("RGB", (256, 256), (255, 0, 0))
    assert measure(red)["saturation"] == pytest.approx(0.5)
    assert measure(red)["clipping"] == 1
    assert measure(Image.new("RGB", (64, 64), (2, 253, 2)))["clipping"] == 0


def test_blocks_are_told_from_stripes_that_have_another_period():
    rows = np.arange(256)

    def striped(period):
        row = np.where(rows // period % 2, 140, 110).astype(np.uint8)
        return Image.fromarray(np.broadcast_to(row[None, :, None], (256, 256, 3)).copy())

    assert measure(striped(8))["blockiness"] > 3
    assert measure(striped(7))["blockiness"] < 0.3


def test_half_a_score_is_at_the_stated_value():
    grey = Image.new("RGB", (256, 256), (128, 128, 128))
    value = measure(noisy(grey, 8))["noise"]
    result = score([noisy(grey, 8)], "noise")
    assert result.values[0] == pytest.approx(1 / (1 + value / MEASURES["noise"].half), abs=1e-6)
    assert result.values[0] == pytest.approx(0.5, abs=0.02)
    assert result.details == [{"noise": round(value, 4)}]


def test_size_alone_changes_little():
    small, large = (score([drawn(s, side) for s in range(6)]).values for side in (256, 768))
    assert small.mean() == pytest.approx(large.mean(), abs=0.04)


def test_odd_sides_grey_and_transparent_images_are_scored():
    clear = Image.new("RGBA", (47, 33), (10, 200, 90, 0))
    values = score([drawn(1, 101), clear, Image.new("L", (33, 300), 7)]).values
    assert np.isfinite(values).all()
    assert (values > 0.5).all()


def test_an_image_that_is_too_small_is_named():
    with pytest.raises(RewardError, match=r"image 1 of 'b' .*it has 31 x 64 pixels, and 32 a side"):
        create("quality").score(
            [drawn(0, 64), Image.new("RGB", (31, 64))], [Prompt("a"), Prompt("b")]
        )


def test_it_can_be_a_guard():
    reward = create("quality")
    reward.check_prompts([Prompt("")])
    assert guard_scale(np.array([0.0, 1.0]), reward.range).tolist() == [1, 5]


def test_the_node_offers_what_the_reward_has():
    [chosen] = STAGES["GDRO_ImageQualityReward"].inputs
    assert chosen.options == ("all", *MEASURES)
    with pytest.raises(InputError, match="measure: there is no 'beauty'"):
        create("quality", measure="beauty")


def test_measures_are_scored_apart():
    names = {create("quality", measure=name).name for name in ("all", *MEASURES)}
    assert len(names) == 8
    assert "quality-high-frequency" in names
