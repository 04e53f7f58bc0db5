"""Paired statistics: the same prompts and seeds with and without a LoRA."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

_RESAMPLES = 4000


@dataclass(frozen=True)
class Comparison:
    """Means of base and aligned with standard errors over prompts, and of their difference on the
    same prompts and seeds; ``low`` and ``high`` are its 95 % bootstrap interval, ``win_rate`` the
    share of prompts on which aligned is better (ties count half)."""

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

    @property
    def interval(self) -> tuple[float, float]:
        """The paired 95 % interval of the gain."""
        return self.low, self.high

    @property
    def rose(self) -> bool:
        """Whether the interval of the gain lies above 0."""
        return self.low > 0

    def table(self) -> str:
        return "\n".join(
            [
                f"{self.reward}, {self.prompts} prompts x {self.images} images, same seeds",
                f"  base     {self.base:.3f} +- {self.base_error:.3f}",
                f"  aligned  {self.aligned:.3f} +- {self.aligned_error:.3f}",
                f"  gain     {self.gain:+.3f} +- {self.gain_error:.3f}   "
                f"(95 % interval {self.low:+.3f} to {self.high:+.3f}; better on "
                f"{self.win_rate:.0%} of prompts)",
            ]
        )


def compare(reward: str, base: np.ndarray, aligned: np.ndarray) -> Comparison:
    """Compare rewards ``[prompts, images]`` of the same prompts and seeds. Where an image is left out in
    both, NaN; each prompt has one at least.

    Errors and interval are over prompts (the mean of each prompt's images is one observation), since
    new prompts, not new seeds, are what a creator will use it on.
    """
    if base.shape != aligned.shape or base.ndim != 2 or len(base) < 2:
        raise ValueError(f"need [prompts >= 2, images] twice, not {base.shape} and {aligned.shape}")
    b, a = (np.asarray(np.nanmean(rewards, axis=1, dtype=float)) for rewards in (base, aligned))
    root = math.sqrt(len(b))
    difference = a - b
    low, high = bootstrap_interval(difference)
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
    )


def bootstrap_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of ``values [n]``, the same every time."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(values), (_RESAMPLES, len(values)))
    means = values[picks].mean(1)
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def diversity(images: Sequence[Image.Image], per_group: int) -> float:
    """How unlike the pictures of one prompt are: the mean distance between any two of them.

    A picture is represented by its colours at 8 x 8 pixels; a distance is the root mean square
    difference, 0 to 1. A model that draws the same picture for every seed has 0.

    Args:
        images: groups one after the other.
        per_group: images of a group; with fewer than 2 there is nothing to compare and it is 0.
    """
    if per_group < 2:
        return 0.0
    small = np.stack(
        [np.asarray(i.convert("RGB").resize((8, 8), Image.Resampling.BOX)) for i in images]
    )
    points = small.reshape(-1, per_group, 8 * 8 * 3).astype(np.float64) / 255
    distance = np.sqrt(((points[:, :, None] - points[:, None]) ** 2).mean(-1))
    return float(distance.sum((1, 2)).mean() / (per_group * (per_group - 1)))
