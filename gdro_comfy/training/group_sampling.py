"""Choose the groups that teach something, and the k of a group's G images that train together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np

DRAWS = ("random", "best and worst")


def teaching_groups(scores: np.ndarray, k: int = 0, min_spread: float = 1e-6) -> list[int]:
    """Return the indices of the groups that teach something: enough scores, and not all equal.

    A group with fewer than ``k`` scored images is left out, because every group of a step has the same
    number of images.

    Args:
        scores: ``[groups, G]``; NaN where an image is left out.
        k: images of a group that train together; 0 is all of them.
        min_spread: smallest difference of a group's best and worst score.

    Raises:
        InputError: no group is left.
    """
    import numpy as np

    k = min(k or scores.shape[1], scores.shape[1])
    counts = (~np.isnan(scores)).sum(1)
    complete = np.flatnonzero(counts >= k)
    if not len(complete):
        largest = int(counts.max())
        remedy = f", or let {largest} or fewer train together (group_size)" if largest > 1 else ""
        raise InputError(
            "group_size",
            f"{k} images of a prompt are to train together, and no group has more than {largest} with "
            "a reward",
            f"Rate more images of each group{remedy}.",
        )
    spread = np.nanmax(scores[complete], 1) - np.nanmin(scores[complete], 1)
    teaching = complete[spread > min_spread].tolist()
    if not teaching:
        raise InputError(
            "rollout",
            f"in all {len(complete)} groups every image has the same reward",
            "There is nothing to learn from: choose a reward that tells the images apart, use more "
            "images per prompt, or prompts that the model gets right only sometimes.",
        )
    return teaching


def draw(scores: Tensor, k: int, how: str, generator: torch.Generator) -> Tensor:
    """Draw the indices of ``k`` images of one group, ``[k]`` int64.

    Args:
        scores: ``[G]``, k or more of them numbers; images whose score is NaN are not drawn.
        how: "random" (the paper), or "best and worst": half from the top, half from the bottom, ties
            broken at random. A random draw of equal scores is repeated a few times.
        generator: source of randomness.
    """
    if how not in DRAWS:
        raise ValueError(f"how must be one of {DRAWS}, not {how!r}")
    scored = (~scores.isnan()).nonzero().flatten()
    if len(scored) < len(scores):
        return scored[draw(scores[scored], k, how, generator)]
    order = torch.randperm(len(scores), generator=generator)
    if how == "best and worst":
        ranking = order[scores[order].argsort(descending=True, stable=True)]
        return torch.cat([ranking[: (k + 1) // 2], ranking[len(ranking) - k // 2 :]])
    picks = order[:k]
    for _ in range(8):
        if scores[picks].max() > scores[picks].min():
            break
        picks = torch.randperm(len(scores), generator=generator)[:k]
    return picks


def permutation(count: int, generator: torch.Generator) -> list[int]:
    """Return the numbers 0 to ``count - 1`` in random order."""
    return torch.randperm(count, generator=generator).tolist()
