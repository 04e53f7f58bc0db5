"""Paired statistics: the same prompts and seeds with and without a LoRA."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

from ..rewards.student_t import t_quantile

_FEWEST_PROMPTS = 8
_FEWEST_CHANGED = 5
_SKEWNESS = 1.3


@dataclass(frozen=True)
class Comparison:
    """One reward of base and aligned model, on the same prompts and seeds.

    Args:
        reward: its name.
        prompts, images: number of prompts, and of images for each.
        base, aligned: mean over prompts; ``_error`` is its standard error.
        gain: mean of aligned minus base.
        low, high: 95 % interval of the gain; to be shown only if ``has_interval``.
        win_rate: share of prompts on which aligned is better; ties count half.
        regular: whether the prompts' gains are such that the interval holds its 95 %.
    """

    reward: str
    prompts: int
    images: int
    base: float
    base_error: float
    aligned: float
    aligned_error: float
    gain: float
    gain_error: float
    low: float
    high: float
    win_rate: float
    regular: bool = True  # results of earlier versions do not say

    @property
    def has_interval(self) -> bool:
        """Whether ``low`` and ``high`` hold their 95 %."""
        return self.regular and self.prompts >= _FEWEST_PROMPTS

    @property
    def interval_text(self) -> str:
        """The interval in figures, or in words why there is none."""
        if self.has_interval:
            return f"{self.low:+.3f} to {self.high:+.3f}"
        if self.prompts < _FEWEST_PROMPTS:
            return f"none: needs {_FEWEST_PROMPTS} prompts"
        return "none: too few prompts make the gain"

    @property
    def interval(self) -> tuple[float, float]:
        """The paired 95 % interval of the gain."""
        return self.low, self.high

    @property
    def rose(self) -> bool:
        """Whether the whole interval of the gain lies above 0; not without one."""
        return self.has_interval and self.low > 0

    def table(self) -> str:
        """Return the figures as four lines of text."""
        return "\n".join(
            [
                f"{self.reward}, {self.prompts} prompts x {self.images} images, same seeds",
                f"  base     {self.base:.3f} +- {self.base_error:.3f}",
                f"  aligned  {self.aligned:.3f} +- {self.aligned_error:.3f}",
                f"  gain     {self.gain:+.3f} +- {self.gain_error:.3f}   "
                f"(95 % interval {self.interval_text}; better on "
                f"{self.win_rate:.0%} of prompts)",
            ]
        )


def compare(reward: str, base: np.ndarray, aligned: np.ndarray) -> Comparison:
    """Compare scores ``[prompts, images]`` of the same prompts and seeds.

    An image that is left out is NaN in both; each prompt has at least one score. Errors and interval
    are over prompts, the mean of a prompt's images being one observation: new prompts, not new seeds,
    are what a creator will use the LoRA on.
    """
    if base.shape != aligned.shape or base.ndim != 2 or len(base) < 2:
        raise ValueError(f"need [prompts >= 2, images] twice, not {base.shape} and {aligned.shape}")
    b, a = (np.asarray(np.nanmean(scores, axis=1, dtype=float)) for scores in (base, aligned))
    root = math.sqrt(len(b))
    difference = a - b
    low, high = t_interval(difference)
    return Comparison(
        reward=reward,
        prompts=base.shape[0],
        images=int((~np.isnan(base)).sum(1).max()),
        base=float(b.mean()),
        base_error=float(b.std(ddof=1) / root),
        aligned=float(a.mean()),
        aligned_error=float(a.std(ddof=1) / root),
        gain=float(difference.mean()),
        gain_error=float(difference.std(ddof=1) / root),
        low=low,
        high=high,
        win_rate=float((np.sign(difference) / 2 + 0.5).mean()),
        regular=_is_regular(difference),
    )


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return Student's t interval of the mean of ``values [n]``, with n at least 2."""
    n = len(values)
    mean = float(values.mean())
    half = t_quantile((1 + level) / 2, n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean - half, mean + half


def _is_regular(differences: np.ndarray) -> bool:
    """Return whether enough prompts changed, and no few of them make most of the gain.

    Otherwise an interval that is printed misses the true gain more often than it says (simulated in
    ``tests/evaluation/test_statistics.py``). Equal gains of all prompts are regular. More than
    56 prompts may be more skewed, as the error of the t interval goes with skewness squared over n.
    """
    changed = int((np.abs(differences) > 1e-9).sum())
    if changed < _FEWEST_CHANGED:
        return False
    spread = float(differences.std(ddof=1))
    if spread < 1e-9:
        return True
    skewness = float(((differences - differences.mean()) ** 3).mean()) / spread**3
    return abs(skewness) <= max(_SKEWNESS, math.sqrt(0.03 * len(differences)))


def diversity(images: Iterable[Image.Image], per_group: int) -> float:
    """Return how unlike the images of one prompt are: the mean distance between any two of them.

    An image is represented by its colours at 8 x 8 pixels; the distance is the root mean square
    difference, 0 to 1. A model that draws the same image for every seed has 0.

    Args:
        images: group after group; may be an iterator, as each is read once.
        per_group: images in a group; below 2 there is nothing to compare, and the result is 0.
    """
    if per_group < 2:
        return 0.0
    small = np.stack(
        [np.asarray(i.convert("RGB").resize((8, 8), Image.Resampling.BOX)) for i in images]
    )
    points = small.reshape(-1, per_group, 8 * 8 * 3).astype(np.float64) / 255
    distance = np.sqrt(((points[:, :, None] - points[:, None]) ** 2).mean(-1))
    return float(distance.sum((1, 2)).mean() / (per_group * (per_group - 1)))
