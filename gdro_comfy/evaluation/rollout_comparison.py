"""Two scored rollouts of the same prompts and seeds against each other: an evaluation for rewards that
cannot judge new pictures, such as numbers made by nodes of the graph or ratings by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from . import report
from .statistics import Comparison, compare

if TYPE_CHECKING:
    from PIL import Image

    from ..data.rollout import Rollout


def compare_rollouts(base: Rollout, aligned: Rollout) -> Comparison:
    """The rewards of two rollouts, paired by prompt; of images without a score in one of them, as where
    not all are rated, neither counts.

    Raises:
        InputError: they are not of the same prompts, number of images, seeds, sampling and reward, or
            fewer than 2 prompts have an image with a score in both.
    """
    _check_pair(base, aligned)
    scores = base.scores(), aligned.scores()
    for name, found in zip(("base", "aligned"), scores, strict=True):
        if np.isnan(found).all():
            raise InputError(
                name, "none of its images has a score", "Put GDRO Score Rollout before this node."
            )
    known = ~(np.isnan(scores[0]) | np.isnan(scores[1]))
    rated = np.asarray(known.any(axis=1))
    if rated.sum() < 2:
        raise InputError(
            "aligned",
            f"{int(rated.sum())} of {len(rated)} prompts have the same image rated in both",
            "Rate the pictures at the same places in both rollouts.",
        )
    paired = [np.where(known, found, np.nan)[rated] for found in scores]
    return compare(_reward_name(base), *paired)


def picture(base: Rollout, aligned: Rollout, rows: int = 6) -> Image.Image:
    """Rows of: the prompt, then both rollouts' images of it on the same seeds."""
    count = min(4, base.images_per_prompt)
    chosen = report.spread_out(len(base.prompts), rows)
    pictures = {
        name: [groups[i].image(place) for i in chosen for place in range(count)]
        for name, groups in (("base", base.groups()), ("aligned", aligned.groups()))
    }
    return report.side_by_side(pictures, [base.prompts[i] for i in chosen], count, rows)


def _check_pair(base: Rollout, aligned: Rollout) -> None:
    one, two = base.run.settings, aligned.run.settings
    wanted = {
        "model": (base.base_identity, aligned.base_identity),
        "prompts": ([p.text for p in base.prompts], [p.text for p in aligned.prompts]),
        "images_per_prompt": (base.images_per_prompt, aligned.images_per_prompt),
        "seed": (one.seed, two.seed),
        "steps": (one.steps, two.steps),
        "guidance": (one.guidance, two.guidance),
        "size": (one.size, two.size),
        "reward": (_reward_name(base), _reward_name(aligned)),
    }
    for name, (a, b) in wanted.items():
        if a != b:
            raise InputError(
                "aligned",
                f"it differs from base in its {name}",
                "Make both rollouts with the same settings, one of them with an aligned LoRA, and "
                "score both by the same reward.",
            )
    if base.run.folder == aligned.run.folder:
        raise InputError(
            "aligned",
            "it is the same rollout as base",
            "Connect a LoRA to the aligned input of its GDRO Group Rollout.",
        )


def _reward_name(rollout: Rollout) -> str:
    """The reward's name, without what tells its settings apart: numbers made for one rollout are
    others than those for another."""
    return (rollout.score_file or "").rpartition("-")[0]
