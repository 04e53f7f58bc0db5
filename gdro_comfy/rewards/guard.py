"""The guard against reward hacking, and the corrected score."""

from __future__ import annotations

import numpy as np

from ..errors import InputError


def guard_scale(values: np.ndarray, value_range: tuple[float, float]) -> np.ndarray:
    """Scale values from a reward's range to 1 (worst) to 5 (best); values outside are clipped.

    Raises:
        InputError: the range is not finite, or empty.
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
    """Return ``r (u - 3) + 0.2`` of each image (GDRO, arXiv 2601.02036).

    Args:
        reward: ``r``, in [0, 1].
        guard: ``u``, from 1 to 5.

    >>> corrected_score(np.array([1.0, 1.0]), np.array([5.0, 1.0]))
    array([ 2.2, -1.8])
    """
    return reward * (guard - 3) + 0.2
