"""Read the runs below an output folder for a viewer, and their trainings.

Clients give names, never paths: a run, a training, a score file or an evaluation is looked up by name in
the list of those that exist, a group by its id, an image by its index. A ``folder`` argument here is what
``find`` or ``training_folder`` returned for a name. Whatever does not exist raises ``UnknownName``, and
links inside a run are not followed.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.checksums import unseal_json
from ..data.files import digest, write_json
from ..data.leftovers import DELETED
from ..data.run_lock import writing
from ..data.runs import GROUPS, RECORD, SCORES, TRAININGS
from ..data.trainings import Training, step_sheet

log = logging.getLogger(__name__)

_MAX_ROWS = 4000
_WORKFLOW = "workflow.json"


class UnknownName(LookupError):
    """A name of a run, group, image or the like that does not exist."""


def folders(output_dir: Path) -> dict[str, Path]:
    """Return the folders of all runs by name; links are left out, as they may lead elsewhere."""
    root = output_dir / "gdro"
    if not root.is_dir():
        return {}
    return {
        entry.name: Path(entry.path)
        for entry in sorted(os.scandir(root), key=lambda entry: entry.name)
        if entry.is_dir(follow_symlinks=False)
        and not entry.name.startswith(".")
        and (Path(entry.path) / RECORD).is_file()
    }


def find(output_dir: Path, name: str) -> Path:
    """Return the folder of the run with this name."""
    return pick(folders(output_dir), name, "run")


def pick(paths: Mapping[str, Path], name: str, kind: str) -> Path:
    """Return the path of this name, or raise ``UnknownName`` for this kind of thing."""
    if name not in paths:
        raise UnknownName(f"there is no {kind} {name[:60]!r}")
    return paths[name]


def is_linked(path: Path) -> bool:
    """Return whether a file or its folder is a link (on Windows, also a junction), and may lie elsewhere.

    Folders above these two have been looked up by name, which leaves out links.
    """
    return _is_link(path) or _is_link(path.parent)


def _is_link(path: Path) -> bool:
    is_junction = getattr(path, "is_junction", None)  # new in Python 3.12
    return path.is_symlink() or (is_junction is not None and is_junction())


def entries(folder: Path, suffix: str | None = None) -> dict[str, Path]:
    """Return the sub-folders of a folder, or its files with a suffix, by name; no links, no hidden ones."""
    if is_linked(folder) or not folder.is_dir():
        return {}
    return {
        path.name: path
        for path in sorted(folder.iterdir())
        if not _is_link(path)
        and not path.name.startswith(".")
        and (path.is_dir() if suffix is None else path.suffix == suffix and path.is_file())
    }


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON object; empty if the file is missing, a link, or no JSON.

    One whose checksum does not fit is shown as far as it can be read: ``verify`` says so.
    """
    if is_linked(path):
        return {}
    try:
        value = json.loads(unseal_json(path.read_bytes())[0])
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read_file(path: Path) -> bytes:
    """Read an image or a page of a run; links are not followed."""
    if is_linked(path) or not path.is_file():
        raise UnknownName(f"there is no file {path.name}")
    return path.read_bytes()


def summaries(output_dir: Path) -> list[dict[str, Any]]:
    """Return the summaries of all runs, the latest first; a run that cannot be read is left out."""
    runs = []
    for name, folder in folders(output_dir).items():
        try:
            runs.append(summary(folder))
        except OSError as error:  # deleted at this moment, or not readable by this user
            log.warning("the list of runs leaves out %s: %s", name, error)
    return sorted(runs, key=lambda run: run["modified"], reverse=True)


def summary(folder: Path) -> dict[str, Any]:
    """Return what a list of runs shows of one: model, sizes, rewards, trainings, a group to show."""
    record = read_object(folder / RECORD)
    sides = _typed(record, "size", list) or []
    size, modified = _extent(folder)
    groups = [name for name, path in entries(folder / GROUPS).items() if has_images(path)]
    return {
        "run": folder.name,
        "name": display_name(folder),
        "model": _model_name(record.get("model")),
        "size": sides if sides and all(isinstance(side, int) for side in sides) else None,
        "groups": len(groups),
        "picture": next(iter(groups), None),
        "scores": list(entries(folder / SCORES, ".jsonl")),
        "trainings": [training(path) for path in entries(folder / TRAININGS).values()],
        "bytes": size,
        "modified": modified,
        "workflow": (folder / _WORKFLOW).is_file(),
    }


def has_images(group: Path) -> bool:
    """Return whether a group's folder holds an image, not only the encoded prompt."""
    return (group / "000.png").is_file()


def display_name(folder: Path) -> str:
    """Return the name that the user gave a run, or that of its folder."""
    return _typed(read_object(folder / RECORD), "name", str) or folder.name


def _typed(record: Mapping[str, Any], key: str, kind: type) -> Any:
    """Return a value of a record, or None if it is not of this type."""
    value = record.get(key)
    return value if isinstance(value, kind) else None


def _extent(folder: Path) -> tuple[int, float]:
    """Return the size in bytes of all files below a folder, and when the last of them was written."""
    size, modified = 0, 0.0
    for entry in os.scandir(folder):
        try:
            stat = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # a temporary file that was renamed meanwhile
            continue
        if entry.is_file(follow_symlinks=False):
            part = stat.st_size, stat.st_mtime
        elif not entry.is_dir(follow_symlinks=False):
            continue
        elif folder.name == GROUPS:
            # There may be thousands, so a group is measured again only if its folder has changed.
            part = _group_bytes(Path(entry.path), stat.st_mtime_ns), stat.st_mtime
        else:
            part = _extent(Path(entry.path))
        size, modified = size + part[0], max(modified, part[1])
    return size, modified


@lru_cache(maxsize=65536)
def _group_bytes(folder: Path, stamp: int) -> int:
    """Return the size of a group; writing a file in it renames, which changes the folder's ``stamp``."""
    return _extent(folder)[0]


def _model_name(identity: Any) -> str:
    """Return the kind of a model and the start of its digest, which tells two of a kind apart."""
    if not isinstance(identity, dict):
        return ""
    kind = (_typed(identity, "pipeline", str) or "").removesuffix("Pipeline")
    return f"{kind} {(_typed(identity, 'transformer', str) or '')[:8]}".strip()


def training(folder: Path) -> dict[str, Any]:
    """Return name, state, steps and LoRA of a training."""
    files = Training(folder)
    done, config = read_object(files.done), read_object(files.config)
    settings = _typed(config, "training", dict) or {}
    return {
        "training": folder.name,
        "state": "finished" if done else "unfinished",
        "lora": _typed(done, "lora", str),
        "steps": _typed(done, "steps", int),
        "asked": _typed(settings, "steps", int),
        "reward": _typed(config, "reward", str),
    }


def save_workflow(output_dir: Path, name: str, workflow: Mapping[str, Any]) -> None:
    """Store the graph that last worked on a run, so that it can be opened from the list of runs."""
    write_json(find(output_dir, name) / _WORKFLOW, dict(workflow))


def workflow(folder: Path) -> dict[str, Any]:
    """Read the graph that last worked on a run.

    Raises:
        UnknownName: there is none, for example because the run was made on the console.
    """
    graph = read_object(folder / _WORKFLOW)
    if not graph:
        raise UnknownName(f"{folder.name} has no workflow: it was not made on the canvas")
    return graph


def delete(output_dir: Path, name: str) -> None:
    """Delete a run with its groups, scores and trainings; finished LoRA files are elsewhere and stay.

    The folder is renamed first, so that an interrupted deletion leaves no part of a run in the list.

    Raises:
        InputError: another process writes into it.
    """
    folder = find(output_dir, name)
    with writing(folder):  # Windows renames no folder with an open file, so the lock is only tried
        pass
    doomed = folder.with_name(f"{DELETED}{digest([name, os.getpid()], 8)}")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(folder, doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def training_folder(folder: Path, name: str) -> Path:
    """Return the folder of the training with this name."""
    return pick(entries(folder / TRAININGS), name, "training")


def history(folder: Path) -> dict[str, Any]:
    """Return what a training's panel shows: its state, its rows, and which images it has."""
    files = Training(folder)
    rows = [] if is_linked(files.history) else files.rows()
    return {
        **training(folder),
        "stopped": any(row.get("stopped") for row in rows),
        "run": files.run_name,
        "rows": _thin(rows),
        "samples": _steps(files.samples),
        "validations": _steps(files.validation),
        "base": "base.png" in entries(files.validation, ".png"),
    }


def _thin(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return evenly fewer rows of a long history, always with the last and those with a validation."""
    every = -(-len(rows) // _MAX_ROWS)
    last = len(rows) - 1
    return [row for i, row in enumerate(rows) if i % every == 0 or i == last or "validation" in row]


def _steps(folder: Path) -> list[int]:
    matches = (re.fullmatch(r"step_(\d{1,9})\.png", name) for name in entries(folder, ".png"))
    return sorted(int(match[1]) for match in matches if match)


def training_image(folder: Path, kind: str, step: int | None) -> bytes:
    """Read a contact sheet of a training, PNG.

    Args:
        kind: "samples" or "validation".
        step: of the training; None is the validation of the base model.
    """
    files = Training(folder)
    sheets = {"samples": files.samples, "validation": files.validation}
    if kind not in sheets or (step is None and kind == "samples"):
        raise UnknownName(f"there are no pictures of {kind[:60]!r}")
    if step is None:
        return read_file(sheets[kind] / "base.png")
    return read_file(step_sheet(sheets[kind], step))
