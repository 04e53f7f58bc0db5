"""A person's ratings of the images of a run: ``ratings.jsonl`` in its folder.

One line per group, the last of which counts, with a value for each image by its index; null stands for an
image that is not rated:

    {"group": "<folder of the group>", "ratings": [5, null, 3]}    stars, 1 (worst) to 5 (best)
    {"group": "<folder of the group>", "ranks": [1, null, 2]}      an order, 1 is the best; ties are equal

An image is identified by group and index in this run. Images made with other settings are in another
run, and images added later have no rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .files import append_lines, read_lines

FILE_NAME = "ratings.jsonl"
MIN_STARS, MAX_STARS = 1, 5
MAX_RANK = 100_000
"""Largest rank, and largest number of images in a group."""


class GroupRating(NamedTuple):
    """The ratings of a group's images.

    Args:
        values: stars or ranks by the image's index; None for an image that is not rated.
        ranked: whether the values are ranks.
    """

    values: list[int | None]
    ranked: bool = False

    def to_json(self) -> dict[str, list[int | None]]:
        """Return the entries of its line."""
        return {"ranks" if self.ranked else "ratings": self.values}

    def differ(self) -> bool:
        """Return whether two images have different values, so that there is something to learn."""
        return len({value for value in self.values if value is not None}) > 1


def read(folder: Path) -> dict[str, GroupRating]:
    """Read the ratings of the run in this folder, by group; invalid lines are left out."""
    ratings = {}
    for row in read_lines(folder / FILE_NAME):
        rating = _parse(row)
        if rating is not None:
            ratings[row["group"]] = rating
    return ratings


def write(folder: Path, groups: Mapping[str, GroupRating]) -> None:
    """Store the ratings of some groups, replacing those they had.

    Raises:
        InputError: a value is invalid; nothing is written.
    """
    rows = [{"group": group, **rating.to_json()} for group, rating in groups.items()]
    if any(_parse(row) is None for row in rows):
        raise InputError(
            "ratings",
            "they do not fit",
            f"Give whole numbers from {MIN_STARS} to {MAX_STARS} (ranks: from 1), or null.",
        )
    if rows:
        append_lines(folder / FILE_NAME, rows)


def _parse(row: Any) -> GroupRating | None:
    """Return the rating in a line; None if it is invalid."""
    if not isinstance(row, dict) or not isinstance(row.get("group"), str):
        return None
    ranked = "ranks" in row
    values = row.get("ranks" if ranked else "ratings")
    largest = MAX_RANK if ranked else MAX_STARS
    if not isinstance(values, list) or len(values) > MAX_RANK:
        return None
    valid = all(v is None or (type(v) is int and 1 <= v <= largest) for v in values)
    return GroupRating(values, ranked) if valid else None
