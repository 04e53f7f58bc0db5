"""The creator's own taste: the ratings of a run as a reward for its images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data import ratings
from ..errors import NotYet
from .precomputed import GivenReward

if TYPE_CHECKING:
    from ..data.ratings import Given
    from ..data.rollout import Rollout

KINDS = ("stars", "order")


def rated_values(given: Given, count: int, kind: str) -> np.ndarray:
    """What was given to a group's first ``count`` images as rewards ``[count]``, float32; NaN where an
    image is not rated.

    Args:
        kind: "stars", 1 to 5 as 0 to 1, and ranks evenly from 0 (last) to 1 (first); or "order", 0 for
            the worst rated image, 1 for the next better one, and so on. Steps of 1 are so large
            beside the usual temperatures that it trains as a ranking.
    """
    numbers = (given.numbers + [None] * count)[:count]
    values = np.array([np.nan if n is None else n for n in numbers], dtype=np.float32)
    if kind == "stars" and not given.ranked:
        return (values - ratings.LOWEST) / (ratings.HIGHEST - ratings.LOWEST)
    rated = ~np.isnan(values)
    steps, places = np.unique(
        -values[rated] if given.ranked else values[rated], return_inverse=True
    )
    largest = 1 if kind == "order" else max(1, len(steps) - 1)
    values[rated] = places / largest
    return values


def from_ratings(rollout: Rollout, kind: str = "stars", least_groups: int = 4) -> GivenReward:
    """A reward of the ratings of a rollout's run; images without one are left out.

    Args:
        kind: one of ``KINDS``; see ``rated_values``.
        least_groups: groups (or all, if there are no more) in which two images must be rated
            differently.

    Raises:
        NotYet: there are fewer.
    """
    values, count = _values(rollout, kind), rollout.images_per_prompt
    rated, alike = counts(values)
    needed = min(least_groups, len(values))
    if rated < needed:
        run = rollout.run.folder.name
        found = f"{rated} of {len(values)} groups rated"
        more = f" ({alike} more all alike, which teaches nothing)" if alike else ""
        raise NotYet(
            "rollout",
            f"{found}{more}, and {needed} are needed",
            f"Rate more of {run}, in the gallery on the node or with gdro-comfy rate {run} FILE.csv, and "
            "run again: nothing is generated twice.",
            f"{found}{more}; rate more and press Run ({needed} are needed).",
        )
    highest = 1.0 if kind == "stars" else float(max(1, count - 1))
    source = "GDRO Rating Reward"
    return GivenReward("rating", rollout, values, source, (0.0, highest))


def _values(rollout: Rollout, kind: str) -> np.ndarray:
    """``[groups, G]``; NaN where an image is not rated."""
    known, nothing = ratings.read(rollout.run.folder), ratings.Given([])
    rows = [known.get(group.folder.name, nothing) for group in rollout.groups()]
    return np.stack([rated_values(given, rollout.images_per_prompt, kind) for given in rows])


def in_words(rollout: Rollout) -> str:
    """How much of a rollout is rated."""
    values = _values(rollout, "stars")
    rated, alike = counts(values)
    more = f", {alike} more all alike (they teach nothing)" if alike else ""
    images = int((~np.isnan(values)).sum())
    return f"{images} of {values.size} pictures rated; {rated} of {len(values)} groups{more}"


def counts(values: np.ndarray) -> tuple[int, int]:
    """Of rewards ``[groups, G]``: groups in which two images differ, and groups with two rated images
    or more that are all alike."""
    differ = [len(set(row[~np.isnan(row)].tolist())) > 1 for row in values]
    several = (~np.isnan(values)).sum(1) > 1
    return sum(differ), int((several & ~np.array(differ)).sum())
