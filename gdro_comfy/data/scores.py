"""Score files: one JSON line per image, appended as images are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import read_lines
from .numbers import finite_number

ScoreRows = dict[tuple[str, int], dict[str, Any]]
"""(group id, index of the image) -> its line: "prompt", "image", "value", "asked", "details".

"value" is a finite number, or None for an image that the reward left out.
"""


def read_scores(path: Path, damaged: list[int] | None = None) -> ScoreRows:
    """Read a score file; the last line of an image counts. A line that is no score is left out.

    Args:
        damaged: receives the numbers of lines that cannot be read, from 1 on.
    """
    rows: ScoreRows = {}
    for row in read_lines(path, damaged):
        group, index, value = row.get("prompt"), row.get("image"), row.get("value")
        known = "value" in row and (value is None or finite_number(value) is not None)
        if isinstance(group, str) and type(index) is int and known:
            rows[group, index] = row
    return rows
