"""Read the groups of a run for a viewer: pages of them, sorted and filtered by score, and their images.

As in ``runs``, no client gives a path: a group is named by its id, an image by its index.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.runs import GROUPS, SCORES
from ..data.scores import read_scores
from .runs import UnknownName, entries, has_images, is_linked, pick, read_file, read_object

ORDERS = ("arrival", "latest", "spread", "mean", "best", "prompt")
"""Orders of groups: by creation, by the latest change, by their scores, or by their prompt.

Without scores, an order by scores is "latest".
"""

THUMBNAIL = 192
"""Longer side of a thumbnail in pixels."""

PAGE = 200
"""Most groups in one answer."""

ScoresByGroup = dict[str, dict[int, dict[str, Any]]]
"""Group id -> index of the image -> its "value" and "details"."""


def group_folder(folder: Path, group: str) -> Path:
    """Return the folder of the group with this id."""
    path = folder / GROUPS / group
    if not re.fullmatch(r"[0-9a-f]{12}", group) or is_linked(path) or not path.is_dir():
        raise UnknownName(f"there is no group {group[:60]!r}")
    return path


def page(
    folder: Path,
    scores: str = "",
    order: str = "arrival",
    least_spread: float = 0.0,
    offset: int = 0,
    limit: int = 50,
) -> dict[str, Any]:
    """Return a page of a run's groups with their images and scores.

    Args:
        scores: name of a score file; empty is the one written last, if there is any.
        order: one of ``ORDERS``; by scores, the highest comes first.
        least_spread: leave out groups whose best and worst score differ by less; ignored without
            scores.
        offset: index of the first group.
        limit: most groups to return, at most ``PAGE``.
    """
    if order not in ORDERS:
        raise UnknownName(f"there is no order {order[:60]!r}")
    path = score_file(folder, scores)
    rows = _scores(path, _stamp(path)) if path else {}
    groups = {
        entry.name: Path(entry.path)
        for entry in os.scandir(_groups_folder(folder))
        if re.fullmatch(r"[0-9a-f]{12}", entry.name)
        and entry.is_dir(follow_symlinks=False)
        and has_images(Path(entry.path))
    }
    statistics = {name: _statistics(rows[name]) for name in groups if name in rows}
    names = list(groups)
    if least_spread > 0 and rows:
        names = [n for n in names if n in statistics and statistics[n]["spread"] >= least_spread]
    keys: dict[str, Callable[[str], Any]] = {
        "arrival": lambda name: _created(groups[name]),
        "latest": lambda name: -_changed(groups[name]),
        "prompt": lambda name: _prompt(groups[name]).lower(),
    }
    if order in keys:
        names.sort(key=lambda name: (keys[order](name), name))
    else:
        # Groups without scores follow the scored ones, the latest first.
        names.sort(
            key=lambda name: (
                name not in statistics,
                -statistics[name][order] if name in statistics else keys["latest"](name),
                name,
            )
        )
    offset, limit = max(0, offset), max(1, min(limit, PAGE))
    values = [row["value"] for name in names for row in rows.get(name, {}).values()]
    return {
        "run": folder.name,
        "scores": path.name if path else "",
        "all_scores": list(entries(folder / SCORES, ".jsonl")),
        "total": len(groups),
        "matching": len(names),
        "offset": offset,
        "range": [min(values), max(values)] if values else None,
        "histogram": _histogram(values),
        "groups": [
            {
                "group": name,
                "prompt": _prompt(groups[name]),
                **statistics.get(name, {}),
                "images": _images(groups[name], rows.get(name, {})),
            }
            for name in names[offset : offset + limit]
        ],
    }


def score_file(folder: Path, name: str = "") -> Path | None:
    """Return the score file of this name; without a name the one written last, or None."""
    files = entries(folder / SCORES, ".jsonl")
    if name:
        return pick(files, name, "score file")
    return max(files.values(), key=lambda path: path.stat().st_mtime, default=None)


def _groups_folder(folder: Path) -> Path:
    if is_linked(folder / GROUPS) or not (folder / GROUPS).is_dir():
        raise UnknownName("the run has no groups")
    return folder / GROUPS


def _created(group: Path) -> int:
    """Return when a group got its first image, in nanoseconds."""
    try:
        return (group / "prompt.json").stat().st_mtime_ns
    except OSError:
        return 2**63


def _changed(group: Path) -> int:
    """Return when an image or another file was last added to a group, in nanoseconds."""
    try:
        return group.stat().st_mtime_ns
    except OSError:
        return 0


def _prompt(group: Path) -> str:
    text = read_object(group / "prompt.json").get("text", "")
    return text if isinstance(text, str) else ""


def _images(group: Path, rows: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the images of a group with their scores, the best first."""
    indices = sorted(
        int(entry.name[:-4])
        for entry in os.scandir(group)
        if re.fullmatch(r"\d{3,6}\.png", entry.name)
    )
    images = [{"image": index, **rows.get(index, {})} for index in indices]
    return sorted(images, key=lambda image: -image.get("value", float("-inf")))


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=4)
def _scores(path: Path, stamp: tuple[int, int]) -> ScoresByGroup:
    """Read a score file without the images that the reward left out.

    Args:
        stamp: changes with the file, so that a changed file is read again.
    """
    scores: ScoresByGroup = {}
    for (group, index), row in read_scores(path).items():
        if row["value"] is not None:
            details = row.get("details") or {}
            scores.setdefault(group, {})[index] = {"value": row["value"], "details": details}
    return scores


def _statistics(rows: Mapping[int, dict[str, Any]]) -> dict[str, float]:
    values = [row["value"] for row in rows.values()]
    return {
        "spread": max(values) - min(values),
        "mean": sum(values) / len(values),
        "best": max(values),
    }


def _histogram(values: Sequence[float], bins: int = 24) -> list[int]:
    """Return how many values are in each of equal intervals from the smallest to the largest."""
    if not values:
        return []
    low, high = min(values), max(values)
    counts = [0] * bins
    for value in values:
        index = int((value - low) / (high - low) * bins) if high > low else 0
        counts[min(index, bins - 1)] += 1
    return counts


def image(folder: Path, group: str, index: int, thumbnail: bool) -> bytes:
    """Read an image of a group: the PNG file, or a small JPEG made of it."""
    path = group_folder(folder, group) / f"{index:03d}.png"
    return _thumbnail(path) if thumbnail else read_file(path)


def _thumbnail(path: Path) -> bytes:
    from PIL import Image

    data, buffer = read_file(path), io.BytesIO()
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image = image.convert("RGB")
            image.thumbnail((THUMBNAIL, THUMBNAIL))
            image.save(buffer, "JPEG", quality=88)
    except Exception as error:  # Pillow raises a dozen kinds of them for damaged files
        raise UnknownName(f"{path.name} is damaged ({error})") from error
    return buffer.getvalue()
