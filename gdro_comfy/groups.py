"""Which k of a group's G images train together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import InputError

if TYPE_CHECKING:
    import numpy as np

DRAWS = ("random", "best and worst")


def teaching_groups(rewards: np.ndarray, least_spread: float = 1e-6) -> list[int]:
    """Places of the groups that can teach something: all scored, and not all alike.

    Args:
        rewards: ``[groups, G]``; NaN where an image has no score.

    Raises:
        InputError: no group is left, or one has images without a score.
    """
    import numpy as np

    unscored = np.isnan(rewards).any(1)
    if unscored.any():
        raise InputError(
            "rollout",
            f"{int(unscored.sum())} of {len(rewards)} groups have images without a score",
            "Run GDRO Score Rollout on the same rollout first.",
        )
    spread = rewards.max(1) - rewards.min(1)
    places = np.flatnonzero(spread > least_spread).tolist()
    if not places:
        raise InputError(
            "rollout",
            f"in all {len(rewards)} groups every image has the same reward",
            "There is nothing to learn from: choose a reward that tells the images apart, use more "
            "images per prompt, or prompts that the model gets right only sometimes.",
        )
    return places


def draw(rewards: Tensor, k: int, how: str, generator: torch.Generator) -> Tensor:
    """Places of ``k`` images of one group, ``[k]`` int64.

    Args:
        rewards: ``[G]``, G >= k.
        how: "random" (the paper), or "best and worst": half from the top, half from the bottom, ties
            broken at random. Random draws are repeated a few times if all rewards come out alike.
    """
    if how not in DRAWS:
        raise ValueError(f"how must be one of {DRAWS}, not {how!r}")
    shuffled = torch.randperm(len(rewards), generator=generator)
    if how == "best and worst":
        order = shuffled[rewards[shuffled].argsort(descending=True, stable=True)]
        return torch.cat([order[: (k + 1) // 2], order[len(order) - k // 2 :]])
    picked = shuffled[:k]
    for _ in range(8):
        if rewards[picked].max() > rewards[picked].min():
            break
        picked = torch.randperm(len(rewards), generator=generator)[:k]
    return picked


def shuffled(count: int, generator: torch.Generator) -> list[int]:
    """The numbers 0 to ``count - 1`` in a random order."""
    return torch.randperm(count, generator=generator).tolist()
