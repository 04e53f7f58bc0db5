"""Which k of a group's G images train together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError

if TYPE_CHECKING:
    import numpy as np

DRAWS = ("random", "best and worst")


def teaching_groups(rewards: np.ndarray, k: int = 0, least_spread: float = 1e-6) -> list[int]:
    """Places of the groups that can teach something: with enough rewards, and not all alike.

    A group of which fewer than ``k`` images have a reward is passed over, and not trained on with fewer:
    every group of a step has the same number of images.

    Args:
        rewards: ``[groups, G]``; NaN where an image is left out.
        k: images of a group that train together; 0 is all of them.

    Raises:
        InputError: no group is left.
    """
    import numpy as np

    k = min(k or rewards.shape[1], rewards.shape[1])
    scored = (~np.isnan(rewards)).sum(1)
    enough = np.flatnonzero(scored >= k)
    if not len(enough):
        most = int(scored.max())
        remedy = f", or let {most} or fewer train together (group_size)" if most > 1 else ""
        raise InputError(
            "group_size",
            f"{k} images of a prompt are to train together, and no group has more than {most} with "
            "a reward",
            f"Rate more images of each group{remedy}.",
        )
    spread = np.nanmax(rewards[enough], 1) - np.nanmin(rewards[enough], 1)
    places = enough[spread > least_spread].tolist()
    if not places:
        raise InputError(
            "rollout",
            f"in all {len(enough)} groups every image has the same reward",
            "There is nothing to learn from: choose a reward that tells the images apart, use more "
            "images per prompt, or prompts that the model gets right only sometimes.",
        )
    return places


def draw(rewards: Tensor, k: int, how: str, generator: torch.Generator) -> Tensor:
    """Places of ``k`` images of one group, ``[k]`` int64.

    Args:
        rewards: ``[G]``, of which k or more are numbers; those that are NaN are not drawn.
        how: "random" (the paper), or "best and worst": half from the top, half from the bottom, ties
            broken at random. Random draws are repeated a few times if all rewards come out alike.
    """
    if how not in DRAWS:
        raise ValueError(f"how must be one of {DRAWS}, not {how!r}")
    known = (~rewards.isnan()).nonzero().flatten()
    if len(known) < len(rewards):
        return known[draw(rewards[known], k, how, generator)]
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
