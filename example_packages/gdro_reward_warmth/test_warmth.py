"""Run with ``pytest`` in an environment where the package is installed."""

from importlib.metadata import entry_points

import pytest
from PIL import Image

IMAGES = [Image.new("RGB", (8, 8), color) for color in ("orange", "grey", "blue")]


@pytest.fixture
def reward_class():
    [point] = entry_points(group="gdro_comfy.rewards", name="warmth")
    return point.load()


def test_warm_colours_score_higher(reward_class):
    orange, grey, blue = reward_class().score(IMAGES, [None] * 3)
    assert 1 > orange > grey > blue > 0
    assert grey == pytest.approx(0.5)


def test_cold_reverses_the_order(reward_class):
    orange, grey, blue = reward_class(strength=8, wanted="cold").score(IMAGES, [None] * 3)
    assert orange < grey < blue


def test_impossible_settings_are_refused(reward_class):
    with pytest.raises(ValueError, match="strength has to be above 0"):
        reward_class(strength=-1)
    with pytest.raises(ValueError, match="warm"):
        reward_class(wanted="tepid")
