"""The guard against reward hacking, and the corrected score."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def guard_scale(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Values of a reward of this range on the scale from 1 (worst) to 5 (best).

    Raises:
        InputError: the reward has no finite range.
    """
    low, high = value_range
    if not (np.isfinite([low, high]).all() and low < high):
        raise InputError(
            "guard",
            f"its range is {low} to {high}, which cannot be put on a scale from 1 to 5",
            "Use a guard with a finite range, or normalise it with GDRO Combine Rewards.",
        )
    return 1 + 4 * (np.clip(values, low, high) - low) / (high - low)


def corrected_score(reward: np.ndarray, guard: np.ndarray) -> np.ndarray:
    """``r (u - 3) + 0.2`` of each picture: a reward in [0, 1] and a guard from 1 to 5 (GDRO, arXiv
    2601.02036)."""
    return reward * (guard - 3) + 0.2
