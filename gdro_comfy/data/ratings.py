"""What a person thinks of the images of a run: ``ratings.jsonl`` in its folder.

One line a group, of which the last counts, with a number for each image by its number; null stands for
an image that is not rated:

    {"group": "<folder of the group>", "ratings": [5, null, 3]}    stars, 1 (worst) to 5 (best)
    {"group": "<folder of the group>", "ranks": [1, null, 2]}      an order, 1 is the best; ties are alike

Images are told by their group and number in this run. What was made with other settings is another run,
and images that came later have no rating.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from .files import append_lines, read_lines

NAME = "ratings.jsonl"
LOWEST, HIGHEST = 1, 5
MOST = 100_000
"""Largest rank, and most images of a group."""


class Given(NamedTuple):
    """What was given to the images of a group, by their numbers: stars, or ranks."""

    numbers: list[int | None]
    ranked: bool = False

    def to_json(self) -> dict[str, list[int | None]]:
        return {"ranks" if self.ranked else "ratings": self.numbers}

    def differ(self) -> bool:
        """Whether two images have different numbers, so that there is something to learn."""
        return len({number for number in self.numbers if number is not None}) > 1


def read(folder: Path) -> dict[str, Given]:
    """What was given, by group of the run in this folder; lines that do not fit are left out."""
    found = {}
    for row in read_lines(folder / NAME):
        given = _given(row)
        if given is not None:
            found[row["group"]] = given
    return found


def write(folder: Path, groups: Mapping[str, Given]) -> None:
    """Put down what was given to the images of some groups, in the place of what they had.

    Raises:
        InputError: a number does not fit; nothing is written.
    """
    rows = [{"group": group, **given.to_json()} for group, given in groups.items()]
    if any(_given(row) is None for row in rows):
        raise InputError(
            "ratings",
            "they do not fit",
            f"Give whole numbers from {LOWEST} to {HIGHEST} (ranks: from 1), or null.",
        )
    if rows:
        append_lines(folder / NAME, rows)


def _given(row: Any) -> Given | None:
    if not isinstance(row, dict) or not isinstance(row.get("group"), str):
        return None
    ranked = "ranks" in row
    numbers = row.get("ranks" if ranked else "ratings")
    highest = MOST if ranked else HIGHEST
    if not isinstance(numbers, list) or len(numbers) > MOST:
        return None
    fits = all(n is None or (type(n) is int and 1 <= n <= highest) for n in numbers)
    return Given(numbers, ranked) if fits else None
