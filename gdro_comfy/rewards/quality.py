"""Image quality without weights: what damages any image, whatever it shows.

Every measure is a number of 0 or more, computed in the image's own pixels, that grows with the damage. Its
score is ``1 / (1 + measure / half)``: 1 for an undamaged image, 0.5 at ``half``, and towards 0 for a ruined
one, without an end at which more damage would not count. Measures compare images of one prompt and one size;
``MEASURES`` says how far what an image shows moves them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .base import RewardResult, naming_image

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt

MIN_SIDE = 32
"""Pixels of the shorter side: less holds too few blocks to average over."""

_BLOCK = 8  # pixels of JPEG's blocks, and of what one latent decodes to
_PERIOD = 16  # a patch of two latents; multiples of 2, 4 and 8 repeat in it too
_CAP = (
    8.0  # grey levels that one pixel can add to a periodic pattern, so that contours hardly count
)
_SMOOTH_SHARE = 0.25  # of an image's blocks, the smoothest, show its noise
_WINDOW = 9  # pixels of the blur that an image is compared with
_VIVID = 0.5  # chroma above which a pixel counts as garish
_NOISE_BLOCKS = ((256, 16), (0, 8))
"""From which side on, in pixels: blocks of which side. Small images hold few smooth blocks of 16; with blocks
of 8, the quartile lies about a tenth lower."""


@dataclass(frozen=True, eq=False)
class _Planes:
    """An image, and the differences that several measures share.

    Args:
        pixels: uint8 ``[h, w, 3]``.
        luma: float32 ``[h, w]`` in grey levels, 0 to 255.
        across: differences of neighbours in a row ``[h, w - 1]``.
        down: differences of neighbours in a column ``[h - 1, w]``.
    """

    pixels: np.ndarray
    luma: np.ndarray
    across: np.ndarray
    down: np.ndarray

    @staticmethod
    def of(image: Image.Image) -> _Planes:
        image = image.convert("RGB")
        luma = np.asarray(image.convert("L"), np.float32)
        across, down = luma[:, 1:] - luma[:, :-1], luma[1:] - luma[:-1]
        return _Planes(np.asarray(image), luma, across, down)


def _blur(planes: _Planes) -> float:
    """Return how much of its contrast between neighbours an image keeps when it is blurred: 0 as little as a
    sharp contour, 1 all of it.

    After Crete et al., "The blur effect" (2007): the worse of both directions, over every second row or
    column. A step between two pixels keeps one part in ``_WINDOW``, which is set to 0.
    """
    kept = []
    for lines, differences in (
        (planes.luma[::2], planes.across[::2]),
        (planes.luma.T[::2], planes.down.T[::2]),
    ):
        # A mean of a window moves by the difference of its two ends.
        blurred = np.abs(lines[:, _WINDOW:] - lines[:, :-_WINDOW])
        blurred /= _WINDOW
        own = np.abs(differences[:, _WINDOW // 2 : _WINDOW // 2 + blurred.shape[1]])
        total = float(own.sum())
        kept.append(float(np.minimum(own, blurred).sum()) / total if total else 0.0)
    return max(0.0, (_WINDOW * max(kept) - 1) / (_WINDOW - 1))


def _noise(planes: _Planes) -> float:
    """Return the standard deviation of the noise in grey levels, where the image is smoothest.

    Immerkaer's mask (1996), which flat and sloping areas and straight contours do not answer to, averaged
    over blocks; the quartile of the blocks leaves out those with texture.
    """
    second = planes.across[:, 1:] - planes.across[:, :-1]
    answer = np.abs(second[2:] - 2 * second[1:-1] + second[:-2])
    size = next(block for side, block in _NOISE_BLOCKS if min(planes.luma.shape) >= side)
    rows, columns = (side // size for side in answer.shape)
    blocks = answer[: rows * size, : columns * size].reshape(rows, size, columns, size)
    means = np.quantile(blocks.mean((1, 3)), _SMOOTH_SHARE)
    return float(means) * float(np.sqrt(np.pi / 2)) / 6


def _blockiness(planes: _Planes) -> float:
    """Return by how many grey levels the borders of 8-pixel blocks stand out, on average over their length.

    A step counts as far as it exceeds the differences on both of its sides, up to 8 levels; what other
    columns and rows show in the same way, from contours, is subtracted. The blocks begin in the image's
    upper left corner.
    """
    excess = []
    for differences in (planes.across, planes.down.T):
        steps = np.abs(differences)
        stands_out = steps[:, 1:-1] - np.maximum(steps[:, :-2], steps[:, 2:])
        profile = np.clip(stands_out, 0, _CAP, out=stands_out).mean(0)
        # Column k is the step between the pixels k + 1 and k + 2.
        phases = np.array([profile[k::_BLOCK].mean() for k in range(_BLOCK)])
        border = phases[_BLOCK - 2]
        excess.append(float(border - np.delete(phases, _BLOCK - 2).mean()))
    return max(0.0, sum(excess) / 2)


def _grid(planes: _Planes) -> float:
    """Return the standard deviation, in grey levels, of the pattern that repeats every 16 pixels.

    A checkerboard of single pixels, seams of latents and of patches repeat in it. The high-passed image, each
    pixel cut off at 8 levels, is averaged over its tiles; what chance would leave of contours and noise is
    subtracted.
    """
    high = (planes.across[1:-1, 1:] - planes.across[1:-1, :-1]) / 4
    high += (planes.down[1:, 1:-1] - planes.down[:-1, 1:-1]) / 4
    np.clip(high, -_CAP, _CAP, out=high)
    period = _PERIOD if min(high.shape) >= 2 * _PERIOD else _BLOCK
    rows, columns = (side // period for side in high.shape)
    tiles = high[: rows * period, : columns * period].reshape(rows, period, columns, period)
    pattern = tiles.mean((0, 2))
    energy = float(np.square(pattern).mean())
    spread = float(np.einsum("aibj,aibj->", tiles, tiles)) / tiles.size - energy
    by_chance = spread / (rows * columns - 1)
    return float(np.sqrt(max(0.0, energy - by_chance - float(pattern.mean()) ** 2)))


def _high_frequency(planes: _Planes) -> float:
    """Return how far the contrast of neighbours exceeds that at half the size, 0 where it does not.

    The ratio of their mean squares is 0.25 for slopes, 0.5 for sharp contours, about 1 for natural textures,
    4 for white noise and without bound for a checkerboard of single pixels; 1 is subtracted.
    """
    height, width = (side // 2 * 2 for side in planes.luma.shape)
    luma = planes.luma[:height, :width]
    half = luma[::2, ::2] + luma[1::2, ::2] + luma[::2, 1::2] + luma[1::2, 1::2]
    half /= 4
    fine = _mean_square(planes.across) + _mean_square(planes.down)
    coarse = _mean_square(half[:, 1:] - half[:, :-1]) + _mean_square(half[1:] - half[:-1])
    rounding = (
        1 / 6
    )  # mean square of the difference that 8 bits make by themselves, both directions
    return max(0.0, (fine + rounding) / (coarse + rounding) - 1)


def _mean_square(values: np.ndarray) -> float:
    flat = values.ravel()
    return float(np.vdot(flat, flat)) / max(1, flat.size)


def _saturation(planes: _Planes) -> float:
    """Return the mean excess of chroma over 0.5, 0 to 0.5, over every second row.

    Chroma is the largest less the smallest of the three channels, in [0, 1].
    """
    red, green, blue = (planes.pixels[::2, :, channel] for channel in range(3))
    chroma = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    counts = np.bincount(chroma.ravel(), minlength=256)
    return float(counts @ np.maximum(0.0, np.arange(256) / 255 - _VIVID)) / chroma.size


def _clipping(planes: _Planes) -> float:
    """Return the share of channel values at the ends of the range (0, 1, 254, 255), 0 to 1."""
    # 254 to 255 and 0 to 1 become 0 to 3 when 2 is added with overflow.
    ends = np.count_nonzero((planes.pixels + np.uint8(2)) < 4)
    return ends / planes.pixels.size


@dataclass(frozen=True)
class _Measure:
    """A measure and the value at which its score is 0.5."""

    of: Callable[[_Planes], float]
    half: float


MEASURES = {
    "blur": _Measure(_blur, 0.25),
    "noise": _Measure(_noise, 8.0),
    "blockiness": _Measure(_blockiness, 1.0),
    "grid": _Measure(_grid, 1.0),
    "high frequency": _Measure(_high_frequency, 1.0),
    "saturation": _Measure(_saturation, 0.1),
    "clipping": _Measure(_clipping, 0.25),
}
"""The measures, each with the value of half a score.

Blur and high frequency do not change with contrast; blockiness and grid hardly with contents; noise is
overestimated where three quarters of an image are textured; saturation and clipping belong partly to what an
image shows (a pure colour, a white wall), so compare them within a prompt only.
"""
ALL = "all"


class QualityReward:
    """How undamaged an image is: the mean score of all measures, or the score of one.

    Args:
        measure: "all", or a key of ``MEASURES``.

    >>> QualityReward("noise").score([image], [prompt]).details  # doctest: +SKIP
    [{'noise': 3.17}]

    Raises:
        InputError: there is no such measure.
    """

    range = (0.0, 1.0)

    def __init__(self, measure: str = ALL) -> None:
        if measure != ALL and measure not in MEASURES:
            raise InputError(
                "measure", f"there is no {measure!r}", f"Use {ALL}, {', '.join(MEASURES)}."
            )
        self.measures = MEASURES if measure == ALL else {measure: MEASURES[measure]}
        self.name = "quality" if measure == ALL else f"quality-{measure.replace(' ', '-')}"
        self.settings: dict[str, Any] = {
            "half": {name: one.half for name, one in self.measures.items()}
        }

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Accept every prompt: the image alone counts."""

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are the measures by name, in the units of their functions.

        Raises:
            RewardError: an image cannot be read, or is smaller than ``MIN_SIDE``.
        """
        values, details = [], []
        for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            check_cancelled()
            with naming_image(self, index, prompt, OSError, ValueError):
                measured = measure(image, self.measures)
            details.append({name: round(value, 4) for name, value in measured.items()})
            scores = [
                1 / (1 + value / self.measures[name].half) for name, value in measured.items()
            ]
            values.append(sum(scores) / len(scores))
        return RewardResult(np.array(values, dtype=np.float32), details)


def measure(
    image: Image.Image, names: Sequence[str] | dict[str, Any] = tuple(MEASURES)
) -> dict[str, float]:
    """Return measures of an image by name; 0 is undamaged.

    Raises:
        ValueError: a side is shorter than ``MIN_SIDE``.
    """
    if min(image.size) < MIN_SIDE:
        width, height = image.size
        raise ValueError(f"it has {width} x {height} pixels, and {MIN_SIDE} a side are the least")
    planes = _Planes.of(image)
    return {name: MEASURES[name].of(planes) for name in names}
