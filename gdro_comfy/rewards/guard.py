"""The guard against reward hacking, the corrected score, and when a reward counts as fooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..errors import InputError
from .student_t import is_above_zero

_LEVEL = NormalDist().cdf(2.5)
"""One-sided level of each test in ``is_fooled``: 2.5 standard errors with many prompts.

Measurements are compared with the best of many, which is partly luck, and there are many of them: with
2 standard errors, up to 15 % of healthy trainings would be stopped within 20 measurements, with 2.5 up to
3 % (``tests/rewards/test_guard.py``).
"""


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


@dataclass(frozen=True, eq=False)
class PromptScores:
    """One measurement: the mean over the images of each prompt, ``[prompts]`` each.

    Args:
        reward: in [0, 1].
        guard: from 1 to 5.
        corrected: the mean of the images' corrected scores.
    """

    reward: np.ndarray
    guard: np.ndarray
    corrected: np.ndarray


def is_fooled(best: PromptScores, since: Sequence[PromptScores], patience: int) -> bool:
    """Return whether the reward rises at the cost of the guard in the last measurements.

    In each of them the reward has to be higher, and the guard and the corrected score lower, than in the best
    measurement, each by more than chance explains: by 2.5 standard errors of the prompts' paired
    differences, and more with few prompts. The guard has to fall, too, because below 3 a reward that rises
    lowers the corrected score by itself.

    Args:
        best: the measurement with the highest corrected score.
        since: those after it, in order, of the same prompts and seeds.
        patience: how many of the last have to agree, at least 1.
    """
    return len(since) >= patience and all(
        is_above_zero(now.reward - best.reward, _LEVEL)
        and is_above_zero(best.guard - now.guard, _LEVEL)
        and is_above_zero(best.corrected - now.corrected, _LEVEL)
        for now in since[-patience:]
    )
