"""What can be measured in any image: brightness, contrast, colourfulness, sharpness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Pixels = np.ndarray
"""One image, float ``[h, w, 3]`` in [0, 1]."""

_LUMA = np.array((0.2126, 0.7152, 0.0722))  # Rec. 709


def brightness(pixels: Pixels) -> float:
    """Return the mean luma, 0 to 1: Rec. 709 weights on the values as stored."""
    return float((pixels @ _LUMA).mean())


def contrast(pixels: Pixels) -> float:
    """Return the standard deviation of luma (RMS contrast), 0 to 0.5."""
    return float((pixels @ _LUMA).std())


def colourfulness(pixels: Pixels) -> float:
    """Return 0 for grey, about 0.06 for slight, 0.2 for moderate and 0.4 for extreme colours.

    Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003), for values in [0, 1].
    """
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rg, yb = red - green, (red + green) / 2 - blue
    spread = np.hypot(rg.std(), yb.std())
    return float(spread + 0.3 * np.hypot(rg.mean(), yb.mean()))


def sharpness(pixels: Pixels) -> float:
    """Return the standard deviation of luma's Laplacian over 4 neighbours.

    It grows with fine detail and with noise; compare images of one size only. 0 for an image of less than
    3 pixels in height or width.
    """
    luma = pixels @ _LUMA
    if min(luma.shape) < 3:
        return 0.0
    center = luma[1:-1, 1:-1]
    neighbours = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((neighbours - 4 * center).std())


MEASURES: dict[str, Callable[[Pixels], float]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "sharpness": sharpness,
}


def measure(images: np.ndarray, name: str) -> float:
    """Return the mean of a measure over images ``[n, h, w, c]`` in [0, 1]; uses the first 3 channels."""
    return float(np.mean([MEASURES[name](image[..., :3].astype(np.float64)) for image in images]))
