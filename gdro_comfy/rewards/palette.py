"""The colours of an image, whatever their places: how far two palettes are apart, without weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

_SIDE = 64  # pixels of the longer side: finer detail is of no colour of its own
_QUANTILES = 64
HALF = 10.0
"""The distance at which two palettes count as half alike. Black and white are 100 apart in lightness, and
differences of about 2 are just noticed."""

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_DIRECTIONS = np.array(
    [
        (lightness, a, b)
        for lightness in (0, 1)
        for a in (-1, 0, 1)
        for b in (-1, 0, 1)
        if (lightness, a, b) > (0, 0, 0)
    ],
    np.float64,
)
_DIRECTIONS /= np.linalg.norm(_DIRECTIONS, axis=1, keepdims=True)


def oklab(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB colours ``[..., 3]`` in [0, 1] to OKLab times 100.

    The axes are lightness, green to red and blue to yellow.

    Bjoern Ottosson, "A perceptual color space for image processing" (2020).

    >>> oklab(np.ones(3)).round(2) + 0.0
    array([100.,   0.,   0.])
    """
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return 100 * (np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T)


def palette(image: Image.Image) -> np.ndarray:
    """Return an image's colours as float32 ``[13, 64]``.

    Each row holds the quantiles of the colours along one direction of OKLab. Transparent pixels do not count.

    Raises:
        ValueError: all of it is transparent.
    """
    from PIL import Image

    scale = _SIDE / max(image.size)
    rgba = image.convert("RGBA")
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        rgba = rgba.resize(size, Image.Resampling.BOX)
    pixels = np.asarray(rgba).reshape(-1, 4)
    visible = pixels[pixels[:, 3] >= 128, :3]
    if not len(visible):
        raise ValueError("all of it is transparent")
    along = np.sort(oklab(visible / 255) @ _DIRECTIONS.T, axis=0)
    places = (np.arange(_QUANTILES) + 0.5) / _QUANTILES * len(along) - 0.5
    places = places.clip(0, len(along) - 1)
    low = places.astype(int)
    part = (places - low)[:, None]
    high = np.minimum(low + 1, len(along) - 1)
    return (along[low] * (1 - part) + along[high] * part).T.astype(np.float32)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return how alike palettes are: 1 for the same colours in the same amounts, 0.5 at ``HALF`` apart.

    The distance is the sliced Wasserstein distance: how far, on average over the directions, colours have to
    move for one palette to become the other.

    Args:
        a: ``[n, 13, 64]``.
        b: ``[m, 13, 64]``.

    Returns:
        Float32 ``[n, m]``.
    """
    distance = np.stack([np.abs(a - one).mean((1, 2)) for one in b], axis=1)
    return 1 / (1 + distance / HALF)
