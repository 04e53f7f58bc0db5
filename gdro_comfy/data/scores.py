"""Score files: one JSON line per image, appended as images are scored."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .files import read_lines

ScoreRows = dict[tuple[str, int], dict[str, Any]]
"""(group id, index of the image) -> its line: "prompt", "image", "value", "asked", "details"."""


def read_scores(path: Path) -> ScoreRows:
    """Read a score file; the last line of an image counts. A line that is no score is left out."""
    rows: ScoreRows = {}
    for row in read_lines(path):
        group, index, value = row.get("prompt"), row.get("image"), row.get("value")
        if isinstance(group, str) and isinstance(index, int) and _is_value(value):
            rows[group, index] = row
    return rows


def _is_value(value: Any) -> bool:
    """Whether it is a finite number, or None for an image that the reward left out."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value is None or (number and math.isfinite(value))
