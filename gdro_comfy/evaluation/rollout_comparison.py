"""Compare two scored rollouts of the same prompts and seeds.

This is the evaluation for rewards that cannot judge new images, such as numbers made by nodes of the
graph, or ratings by hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.identity import same_base
from ..errors import InputError
from .statistics import Comparison, compare

if TYPE_CHECKING:
    from ..data.rollout import Rollout


def compare_rollouts(base: Rollout, aligned: Rollout) -> Comparison:
    """Compare the scores of two rollouts, paired by prompt.

    Where one of a pair of images has no score, as in partial ratings, neither counts.

    Raises:
        InputError: the rollouts differ in prompts, number of images, seed, sampler settings or reward, or
            fewer than 2 prompts have an image with a score in both.
    """
    _check_pair(base, aligned)
    scores = base.scores(), aligned.scores()
    for name, values in zip(("base", "aligned"), scores, strict=True):
        if np.isnan(values).all():
            raise InputError(
                name, "none of its images has a score", "Put GDRO Score Rollout before this node."
            )
    in_both = ~(np.isnan(scores[0]) | np.isnan(scores[1]))
    rated = np.asarray(in_both.any(axis=1))
    if rated.sum() < 2:
        raise InputError(
            "aligned",
            f"{int(rated.sum())} of {len(rated)} prompts have the same image rated in both",
            "Rate the pictures at the same places in both rollouts.",
        )
    paired = [np.where(in_both, values, np.nan)[rated] for values in scores]
    return compare(_reward_name(base), *paired)


def _check_pair(base: Rollout, aligned: Rollout) -> None:
    one, two = base.run.settings, aligned.run.settings
    pairs = {
        "model": (base.base_identity, aligned.base_identity),
        "prompts": ([p.text for p in base.prompts], [p.text for p in aligned.prompts]),
        "images_per_prompt": (base.images_per_prompt, aligned.images_per_prompt),
        "seed": (one.seed, two.seed),
        "steps": (one.steps, two.steps),
        "guidance": (one.guidance, two.guidance),
        "size": (one.size, two.size),
        "reward": (_reward_name(base), _reward_name(aligned)),
    }
    for name, (a, b) in pairs.items():
        same = same_base(a, b) or same_base(b, a) if name == "model" else a == b
        if not same:
            raise InputError(
                "aligned",
                f"it differs from base in its {name}",
                "Make both rollouts with the same settings, one of them with an aligned LoRA, and "
                "score both by the same reward.",
            )
    if base.run.folder == aligned.run.folder:
        raise same_rollout()


def same_rollout() -> InputError:
    """Return the refusal to compare a rollout with itself."""
    return InputError(
        "aligned",
        "it is the same rollout as base",
        "Connect a LoRA to the aligned input of its GDRO Group Rollout.",
    )


def _reward_name(rollout: Rollout) -> str:
    """Return the reward's name without the digest of its settings.

    Numbers made elsewhere have other settings for each rollout, and are comparable all the same.
    """
    return (rollout.score_file or "").rpartition("-")[0]
