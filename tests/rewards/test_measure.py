"""Measures of images, worked out by hand."""

import numpy as np
import pytest

from gdro_comfy.rewards.measure import MEASURES, measure


def flat(*color):
    return np.full((1, 8, 8, 3), color, np.float32)


def test_a_flat_grey_has_brightness_only():
    grey = flat(0.25, 0.25, 0.25)
    assert measure(grey, "brightness") == pytest.approx(0.25)
    for name in ("contrast", "colourfulness", "sharpness"):
        assert measure(grey, name) == pytest.approx(0, abs=1e-6)


def test_half_black_half_white_has_the_largest_contrast():
    half = np.concatenate([flat(0, 0, 0), flat(1, 1, 1)], axis=1)
    assert measure(half, "contrast") == pytest.approx(0.5)


def test_colourfulness_of_pure_red():
    # rg = 1 and yb = 0.5 everywhere, without spread: 0.3 * sqrt(1 + 0.25)
    assert measure(flat(1, 0, 0), "colourfulness") == pytest.approx(0.3 * 1.25**0.5)


def test_blur_lowers_sharpness():
    noise = np.random.default_rng(0).random((1, 16, 16, 3), np.float32)
    blurred = (noise + np.roll(noise, 1, 1) + np.roll(noise, 1, 2)) / 3
    assert measure(blurred, "sharpness") < measure(noise, "sharpness")


def test_a_batch_gives_the_mean_and_alpha_does_not_count():
    both = np.concatenate([flat(0, 0, 0), flat(1, 1, 1)])
    assert measure(both, "brightness") == pytest.approx(0.5)
    with_alpha = np.concatenate([both, np.zeros((2, 8, 8, 1), np.float32)], axis=3)
    assert measure(with_alpha, "brightness") == pytest.approx(0.5)


@pytest.mark.parametrize("name", list(MEASURES))
@pytest.mark.parametrize("shape", [(1, 1), (2, 64), (64, 1)])
def test_the_smallest_images_have_a_finite_measure(name, shape):
    assert np.isfinite(measure(np.ones((1, *shape, 3), np.float32), name))
