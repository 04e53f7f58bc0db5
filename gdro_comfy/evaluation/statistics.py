"""Paired statistics: the same prompts and seeds with and without a LoRA."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image

_RESAMPLES = 4000


@dataclass(frozen=True)
class Comparison:
    """One reward of base and aligned model, on the same prompts and seeds.

    Args:
        reward: its name.
        prompts, images: number of prompts, and of images for each.
        base, aligned: mean over prompts; ``_error`` is its standard error.
        gain: mean of aligned minus base.
        low, high: 95 % bootstrap interval of the gain.
        win_rate: share of prompts on which aligned is better; ties count half.
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

    @property
    def interval(self) -> tuple[float, float]:
        """The paired 95 % interval of the gain."""
        return self.low, self.high

    @property
    def rose(self) -> bool:
        """Whether the whole interval of the gain lies above 0."""
        return self.low > 0

    def table(self) -> str:
        """Return the figures as four lines of text."""
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
    """Return the percentile bootstrap interval of the mean of ``values [n]``; deterministic."""
    rng = np.random.default_rng(0)
    picks = rng.integers(0, len(values), (_RESAMPLES, len(values)))
    means = values[picks].mean(1)
    tail = 50 * (1 - level)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


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
