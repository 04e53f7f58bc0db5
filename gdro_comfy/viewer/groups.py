"""The groups of a run as a viewer reads them: pages of them, sorted by their scores, and their pictures.

As in ``runs``, nothing takes a path from outside: a group is named by its id, a picture by its number.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.files import read_lines
from .runs import UnknownName, below, pick, read_file, read_object

ORDERS = ("arrival", "spread", "mean", "best", "prompt")
"""How groups may be sorted: as they were made, by what their scores are, or by their prompt."""

THUMBNAIL = 192
"""Largest side of a thumbnail in pixels."""

PAGE = 200
"""Most groups in one answer."""


def group_folder(folder: Path, group: str) -> Path:
    """The folder of a group of a run."""
    path = folder / "prompts" / group
    if not re.fullmatch(r"[0-9a-f]{12}", group) or path.is_symlink() or not path.is_dir():
        raise UnknownName(f"there is no group {group[:60]!r}")
    return path


def groups(
    folder: Path,
    scores: str = "",
    order: str = "arrival",
    least_spread: float = 0.0,
    offset: int = 0,
    limit: int = 50,
    only: Sequence[str] | None = None,
) -> dict[str, Any]:
    """A page of a run's groups with their pictures and scores.

    Args:
        scores: the name of a score file; empty is the one that was written last, if there is any.
        order: one of ``ORDERS``; those of the scores put the highest first.
        least_spread: leaves out groups whose best and worst reward differ by less.
        only: ids of groups to look at; None is all.
    """
    if order not in ORDERS:
        raise UnknownName(f"there is no order {order[:60]!r}")
    path = score_file(folder, scores)
    found = _scores(path, _stamp(path)) if path else {}
    names = [
        entry.name
        for entry in os.scandir(_made(folder / "prompts"))
        if re.fullmatch(r"[0-9a-f]{12}", entry.name) and (only is None or entry.name in only)
    ]
    total = len(names)
    marks = {name: _marks(found.get(name, {})) for name in names}
    if least_spread > 0:
        names = [name for name in names if marks[name]["spread"] >= least_spread]
    if order in ("arrival", "prompt"):
        key: Callable[[str], Any] = {
            "arrival": lambda name: _arrival(folder / "prompts" / name),
            "prompt": lambda name: _prompt(folder / "prompts" / name).lower(),
        }[order]
        names.sort(key=lambda name: (key(name), name))
    else:
        names.sort(key=lambda name: (-marks[name][order], name))
    offset, limit = max(0, offset), max(1, min(limit, PAGE))
    values = [row["value"] for name in names for row in found.get(name, {}).values()]
    return {
        "run": folder.name,
        "scores": path.name if path else "",
        "all_scores": list(below(folder / "scores", ".jsonl")),
        "total": total,
        "matching": len(names),
        "offset": offset,
        "range": [min(values), max(values)] if values else None,
        "histogram": _histogram(values),
        "groups": [
            {
                "group": name,
                "prompt": _prompt(folder / "prompts" / name),
                **(marks[name] if name in found else {}),
                "images": _images(folder / "prompts" / name, found.get(name, {})),
            }
            for name in names[offset : offset + limit]
        ],
    }


def score_file(folder: Path, name: str = "") -> Path | None:
    """A score file of a run by name; without one, that written last, or None."""
    files = below(folder / "scores", ".jsonl")
    if name:
        return pick(files, name, "score file")
    return max(files.values(), key=lambda path: path.stat().st_mtime, default=None)


def _made(folder: Path) -> Path:
    if not folder.is_dir():
        raise UnknownName("the run has no groups")
    return folder


def _arrival(folder: Path) -> int:
    try:
        return (folder / "prompt.json").stat().st_mtime_ns
    except OSError:
        return 2**63


def _prompt(folder: Path) -> str:
    text = read_object(folder / "prompt.json").get("text", "")
    return text if isinstance(text, str) else ""


def _images(folder: Path, rows: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """The pictures of a group, the best first where there are scores."""
    places = sorted(
        int(entry.name[:-4])
        for entry in os.scandir(folder)
        if re.fullmatch(r"\d{3,6}\.png", entry.name)
    )
    images = [{"image": place, **rows.get(place, {})} for place in places]
    return sorted(images, key=lambda image: -image.get("value", float("-inf")))


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _scores(path: Path, stamp: tuple[int, int]) -> dict[str, dict[int, dict[str, Any]]]:
    """Value and details by group and image; ``stamp`` makes a changed file another one."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for row in read_lines(path):
        try:
            shown = {"value": float(row["value"]), "details": row.get("details") or {}}
            found.setdefault(str(row["prompt"]), {})[int(row["image"])] = shown
        except (KeyError, TypeError, ValueError):
            continue
    return found


def _marks(rows: Mapping[int, dict[str, Any]]) -> dict[str, float]:
    values = [row["value"] for row in rows.values()] or [0.0]
    return {
        "spread": max(values) - min(values),
        "mean": sum(values) / len(values),
        "best": max(values),
    }


def _histogram(values: Sequence[float], bins: int = 24) -> list[int]:
    """How many values lie in each of equal parts from the smallest to the largest."""
    if not values:
        return []
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        place = int((value - low) / (high - low) * bins) if high > low else 0
        counts[min(place, bins - 1)] += 1
    return counts


def picture(folder: Path, group: str, place: int, thumbnail: bool) -> bytes:
    """A picture of a group: the PNG as it lies there, or a small JPEG."""
    path = group_folder(folder, group) / f"{place:03d}.png"
    return _thumbnail(path) if thumbnail else read_file(path)


def _thumbnail(path: Path) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(read_file(path)), formats=["PNG"]) as image:
        image = image.convert("RGB")
        image.thumbnail((THUMBNAIL, THUMBNAIL))
        image.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
