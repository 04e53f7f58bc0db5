"""What can be measured in any picture: brightness, contrast, colourfulness, sharpness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Pixels = np.ndarray
"""One picture, float ``[h, w, 3]`` in [0, 1]."""

_LUMA = np.array((0.2126, 0.7152, 0.0722))  # Rec. 709


def brightness(pixels: Pixels) -> float:
    """Mean luma (Rec. 709 weights on the values as stored), 0 to 1."""
    return float((pixels @ _LUMA).mean())


def contrast(pixels: Pixels) -> float:
    """Standard deviation of luma (RMS contrast), 0 to 0.5."""
    return float((pixels @ _LUMA).std())


def colourfulness(pixels: Pixels) -> float:
    """Hasler and Suesstrunk, "Measuring colourfulness in natural images" (2003), for values in [0, 1]:
    0 for grey, about 0.06 slight, 0.2 moderate, 0.4 extreme."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    rg, yb = red - green, (red + green) / 2 - blue
    spread = np.hypot(rg.std(), yb.std())
    return float(spread + 0.3 * np.hypot(rg.mean(), yb.mean()))


def sharpness(pixels: Pixels) -> float:
    """Standard deviation of luma's Laplacian (4 neighbours); 0 where the picture is under 3 pixels
    high or wide. Grows with fine detail and with noise; compare pictures of one size only."""
    luma = pixels @ _LUMA
    if min(luma.shape) < 3:
        return 0.0
    middle = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float((around - 4 * middle).std())


MEASURES: dict[str, Callable[[Pixels], float]] = {
    "brightness": brightness,
    "contrast": contrast,
    "colourfulness": colourfulness,
    "sharpness": sharpness,
}


def measure(images: np.ndarray, name: str) -> float:
    """Mean over a batch ``[n, h, w, 3]`` of pictures in [0, 1]; more channels than 3 are left out."""
    return float(np.mean([MEASURES[name](image[..., :3].astype(np.float64)) for image in images]))
