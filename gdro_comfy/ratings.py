"""Ratings by hand: ``ratings.jsonl`` in a run's folder, one line a group, of which the last counts.

    {"group": "<folder of the group>", "ratings": [5, null, 3, ...]}

A rating is a whole number from 1 (worst) to 5 (best); null stands for an image that is not rated.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError
from .store import append_lines, read_lines

LOWEST, HIGHEST = 1, 5


def read(folder: Path) -> dict[str, list[int | None]]:
    """Ratings by group of the run in this folder; lines that are no ratings are left out."""
    rows = read_lines(folder / "ratings.jsonl")
    return {row["group"]: row["ratings"] for row in rows if _fits(row)}


def write(folder: Path, group: str, ratings: Sequence[int | None]) -> None:
    """Rate the images of a group, in the order of their numbers."""
    row = {"group": group, "ratings": list(ratings)}
    if not _fits(row):
        raise InputError(
            "ratings", "they do not fit", f"Give whole numbers from {LOWEST} to {HIGHEST}, or null."
        )
    append_lines(folder / "ratings.jsonl", [row])


def _fits(row: Any) -> bool:
    if not isinstance(row, dict) or not isinstance(row.get("group"), str):
        return False
    ratings = row.get("ratings")
    return isinstance(ratings, list) and all(
        rating is None or (type(rating) is int and LOWEST <= rating <= HIGHEST)
        for rating in ratings
    )
