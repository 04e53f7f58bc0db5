"""The runs below an output folder, as a viewer reads them: lists, pages of groups, pictures, histories.

Nothing here takes a path. A run, a training, a score file or an evaluation is named by a name that has
to be in the list of those that exist; a group by its id, a picture by its number. Whatever is not found
is an ``UnknownName``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.files import digest, read_lines, write_json


class UnknownName(LookupError):
    """There is no run, group, picture, ... of this name."""


def folders(output_dir: Path) -> dict[str, Path]:
    """All runs, by name. Links are left out: a run lies inside the output folder."""
    root = output_dir / "gdro"
    if not root.is_dir():
        return {}
    return {
        entry.name: Path(entry.path)
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name)
        if entry.is_dir(follow_symlinks=False)
        and not entry.name.startswith(".")
        and (Path(entry.path) / "run.json").is_file()
    }


def find(output_dir: Path, name: str) -> Path:
    """The folder of the run of this name."""
    return pick(folders(output_dir), name, "run")


def pick(found: Mapping[str, Path], name: str, kind: str) -> Path:
    """What is found of this name; ``kind`` is for the message."""
    if name not in found:
        raise UnknownName(f"there is no {kind} {name[:60]!r}")
    return found[name]


def below(folder: Path, suffix: str | None = None) -> dict[str, Path]:
    """Folders in a folder, or files of a suffix, by name."""
    if not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if not path.is_symlink()
        and not path.name.startswith(".")
        and (path.is_dir() if suffix is None else path.suffix == suffix and path.is_file())
    }


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; empty where it is missing or broken."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_file(path: Path) -> bytes:
    """The bytes of a picture or page of a run; links are not followed."""
    if path.is_symlink() or not path.is_file():
        raise UnknownName(f"there is no picture {path.name}")
    return path.read_bytes()


# Runs


def summaries(output_dir: Path) -> list[dict[str, Any]]:
    """What a list of runs shows of each, the latest first."""
    found = [summary(folder) for folder in folders(output_dir).values()]
    return sorted(found, key=lambda run: run["modified"], reverse=True)


def summary(folder: Path) -> dict[str, Any]:
    """Model, sizes, rewards and trainings of a run, and a group to show as its picture."""
    record = read_object(folder / "run.json")
    groups = below(folder / "prompts")
    size, latest = _extent(folder, skip="prompts")
    for group in groups.values():
        # Thousands of them: what a group takes is counted again only if its folder has changed.
        stamp = group.stat().st_mtime_ns
        size, latest = size + _group_bytes(group, stamp), max(latest, stamp / 1e9)
    finished = (g for g in groups if (folder / "prompts" / g / "000.png").is_file())
    return {
        "run": folder.name,
        "name": record.get("name", folder.name),
        "model": _model_name(record.get("model")),
        "size": record.get("size"),
        "groups": len(groups),
        "picture": next(finished, None),
        "scores": list(below(folder / "scores", ".jsonl")),
        "trainings": [training(path) for path in below(folder / "train").values()],
        "bytes": size,
        "modified": latest,
        "workflow": (folder / "workflow.json").is_file(),
    }


def _extent(folder: Path, skip: str = "") -> tuple[int, float]:
    """Bytes of the files in a folder and below, and when the last of them was written; without the
    folder ``skip`` at its top."""
    size, latest = 0, 0.0
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            below = (0, 0.0) if entry.name == skip else _extent(Path(entry.path))
            size, latest = size + below[0], max(latest, below[1])
        elif entry.is_file(follow_symlinks=False):
            stat = entry.stat(follow_symlinks=False)
            size, latest = size + stat.st_size, max(latest, stat.st_mtime)
    return size, latest


@lru_cache(maxsize=65536)
def _group_bytes(folder: Path, stamp: int) -> int:
    """Bytes of a group; every file in it is written by a rename, which changes the folder's ``stamp``."""
    return _extent(folder)[0]


def _model_name(identity: Any) -> str:
    """The kind of a model and the start of its digest: two of one kind can be told apart."""
    if not isinstance(identity, dict):
        return ""
    kind = str(identity.get("pipeline", "")).removesuffix("Pipeline")
    return f"{kind} {str(identity.get('transformer', ''))[:8]}".strip()


def training(folder: Path) -> dict[str, Any]:
    """Name, state and LoRA of a training."""
    done = read_object(folder / "done.json")
    config = read_object(folder / "config.json")
    settings = config.get("training")
    return {
        "training": folder.name,
        "state": "finished" if done else "unfinished",
        "lora": done.get("lora"),
        "steps": done.get("steps"),
        "asked": settings.get("steps") if isinstance(settings, dict) else None,
        "reward": config.get("reward"),
    }


def keep_workflow(output_dir: Path, name: str, workflow: Mapping[str, Any]) -> None:
    """Keep the graph that worked on a run last, so that the run can be gone on with from the list."""
    write_json(find(output_dir, name) / "workflow.json", dict(workflow))


def workflow(folder: Path) -> dict[str, Any]:
    """The graph that worked on a run last.

    Raises:
        UnknownName: there is none, as with runs of the console.
    """
    found = read_object(folder / "workflow.json")
    if not found:
        raise UnknownName(f"{folder.name} has no workflow: it was not made on the canvas")
    return found


def delete(output_dir: Path, name: str) -> None:
    """Delete a run: its groups, scores and trainings. Finished LoRA files lie elsewhere and stay.

    It is renamed first, so that an interrupted delete leaves no half of a run in the list.
    """
    folder = find(output_dir, name)
    away = folder.with_name(f".deleted-{digest([name, os.getpid()], 8)}")
    shutil.rmtree(away, ignore_errors=True)
    os.replace(folder, away)
    shutil.rmtree(away, ignore_errors=True)


# Trainings and evaluations


def training_folder(folder: Path, name: str) -> Path:
    return pick(below(folder / "train"), name, "training")


def history(folder: Path) -> dict[str, Any]:
    """What a training's panel shows: its state, its rows, and which pictures there are."""
    return {
        **training(folder),
        "run": folder.parent.parent.name,
        "rows": _thinned(read_lines(folder / "history.jsonl")),
        "samples": _steps(folder / "samples"),
        "validations": _steps(folder / "validation"),
        "base": (folder / "validation" / "base.png").is_file(),
    }


def _thinned(rows: list[dict[str, Any]], most: int = 4000) -> list[dict[str, Any]]:
    """Evenly fewer rows of a long history; those with a validation stay, and the last."""
    every = -(-len(rows) // most)
    last = len(rows) - 1
    return [row for i, row in enumerate(rows) if i % every == 0 or i == last or "validation" in row]


def _steps(folder: Path) -> list[int]:
    found = (re.fullmatch(r"step_(\d{1,9})\.png", name) for name in below(folder, ".png"))
    return sorted(int(match[1]) for match in found if match)


def sample(folder: Path, kind: str, step: int | None) -> bytes:
    """A picture of a training, PNG: of the "samples" or the "validation" at a step; None is the base
    model's validation."""
    if kind not in ("samples", "validation") or (step is None and kind == "samples"):
        raise UnknownName(f"there are no pictures of {kind[:60]!r}")
    return read_file(folder / kind / ("base.png" if step is None else f"step_{step:05d}.png"))


def evaluation(folder: Path, name: str) -> dict[str, Any]:
    """The figures of an evaluation of a training, and its pairs of pictures."""
    path = pick(below(folder / "evaluations"), name, "evaluation")
    found = read_object(path / "result.json")
    return {
        "evaluation": name,
        "results": found.get("results") or [],
        "rewards": found.get("rewards") or {},
        "pairs": found.get("pairs") or [],
        "report": "report.html" in below(path, ".html"),
    }


def evaluation_picture(folder: Path, name: str, pair: int | None = None, model: int = 0) -> bytes:
    """A PNG of an evaluation: of everything, or of a pair by one model (0 is the base)."""
    path = pick(below(folder / "evaluations"), name, "evaluation")
    if pair is None:
        return read_file(path / "comparison.png")
    return read_file(path / "pairs" / f"{pair:03d}_{model}.png")


def report(folder: Path, name: str) -> bytes:
    """The report of an evaluation, HTML."""
    return read_file(pick(below(folder / "evaluations"), name, "evaluation") / "report.html")
