"""The creator's own taste: the ratings of a run as a reward for its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data import ratings
from ..errors import WaitingForUser
from .precomputed import PrecomputedReward

if TYPE_CHECKING:
    from ..data.ratings import GroupRating
    from ..data.rollout import Rollout

KINDS = ("stars", "order")


def rated_values(rating: GroupRating, count: int, kind: str) -> np.ndarray:
    """Return the rating of a group's first ``count`` images as rewards ``[count]``.

    Args:
        kind: "stars" turns 1 to 5 stars into 0 to 1, and ranks evenly into 0 (last) to 1 (first).
            "order" gives 0 to the worst rated image, 1 to the next better one, and so on. Steps of 1 are
            so large beside the usual temperatures that it trains as a ranking.

    Returns:
        Float32; NaN where an image is not rated.
    """
    padded = (rating.values + [None] * count)[:count]
    values = np.array([np.nan if value is None else value for value in padded], dtype=np.float32)
    if kind == "stars" and not rating.ranked:
        return (values - ratings.MIN_STARS) / (ratings.MAX_STARS - ratings.MIN_STARS)
    rated = ~np.isnan(values)
    ascending = -values[rated] if rating.ranked else values[rated]
    levels, level_of = np.unique(ascending, return_inverse=True)
    highest = 1 if kind == "order" else max(1, len(levels) - 1)
    values[rated] = level_of / highest
    return values


def from_ratings(rollout: Rollout, kind: str = "stars", least_groups: int = 4) -> PrecomputedReward:
    """Make a reward of the ratings of a rollout's run, which leaves out images without a rating.

    Args:
        kind: one of ``KINDS``; see ``rated_values``.
        least_groups: groups in which two images must have different ratings; all groups, if there are
            fewer.

    Raises:
        WaitingForUser: there are not that many.
    """
    values, count = stored_values(rollout, kind), rollout.images_per_prompt
    rated, alike = count_groups(values)
    needed = min(least_groups, len(values))
    if rated < needed:
        run = rollout.run.folder.name
        progress = f"{rated} of {len(values)} groups rated"
        if alike:
            progress += f" ({alike} more all alike, which teaches nothing)"
        raise WaitingForUser(
            "rollout",
            f"{progress}, and {needed} are needed",
            f"Rate more of {run}, in the gallery on the node or with gdro-comfy rate {run} FILE.csv, and "
            "run again: nothing is generated twice.",
            f"{progress}; rate more and press Run ({needed} are needed).",
        )
    highest = 1.0 if kind == "stars" else float(max(1, count - 1))
    return PrecomputedReward("rating", rollout, values, "GDRO Rating Reward", (0.0, highest))


def stored_values(rollout: Rollout, kind: str) -> np.ndarray:
    """Return the ratings as rewards ``[groups, G]``; NaN where an image is not rated."""
    by_group, unrated = ratings.read(rollout.run.folder), ratings.GroupRating([])
    rows = [by_group.get(group.folder.name, unrated) for group in rollout.groups()]
    return np.stack([rated_values(rating, rollout.images_per_prompt, kind) for rating in rows])


def describe(rollout: Rollout) -> str:
    """Describe how much of a rollout is rated."""
    values = stored_values(rollout, "stars")
    rated, alike = count_groups(values)
    more = f", {alike} more all alike (they teach nothing)" if alike else ""
    images = int((~np.isnan(values)).sum())
    return f"{images} of {values.size} pictures rated; {rated} of {len(values)} groups{more}"


def count_groups(values: np.ndarray) -> tuple[int, int]:
    """Count the groups that teach something, and those that do not although they are rated.

    Args:
        values: ``[groups, G]``; NaN where an image is not rated.

    Returns:
        Groups in which two images differ; groups with two rated images or more that are all alike.
    """
    differ = [len(set(row[~np.isnan(row)].tolist())) > 1 for row in values]
    several = (~np.isnan(values)).sum(1) > 1
    return sum(differ), int((several & ~np.array(differ)).sum())
