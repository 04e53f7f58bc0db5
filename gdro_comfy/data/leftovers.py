"""What is left over below an output folder: unfinished writes, deleted runs, damaged files set aside."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from .damage import SET_ASIDE
from .disk import explained
from .run_lock import writing

DELETED = ".deleted-"
"""How the name of a run's folder starts that is being deleted."""

_PART = ".part"
_YOUNG = 3600.0
"""Seconds for which a temporary file outside of runs, where no lock tells, may still be in use."""


@dataclass(frozen=True)
class Leftover:
    """A file or folder that nothing needs.

    Args:
        path: of it.
        bytes: its size, with all that is in it.
        kind: what it is, in words.
        run: the folder of the run that it is in; None outside of runs.
    """

    path: Path
    bytes: int
    kind: str
    run: Path | None = None


def find(output_dir: Path, lora_dir: Path) -> list[Leftover]:
    """List what is left over of runs and of finished LoRAs; links are not followed."""
    root, loras = output_dir / "gdro", lora_dir / "gdro"
    found = [_leftover(path, None) for path in _unneeded(root, deep=False)]
    for run in _entries(root):
        if run.is_dir() and not run.name.startswith("."):
            found += [_leftover(Path(path), Path(run.path)) for path in _unneeded(Path(run.path))]
    if not loras.is_relative_to(root):
        young = time.time() - _YOUNG
        found += [
            _leftover(path, None) for path in _unneeded(loras) if path.stat().st_mtime < young
        ]
    return found


def delete(leftovers: Sequence[Leftover]) -> tuple[list[Leftover], list[str]]:
    """Delete what is left over, as far as nobody writes into its run.

    Returns:
        What is deleted, and why the rest is not, in words.
    """
    deleted, problems = [], []
    for run in dict.fromkeys(leftover.run for leftover in leftovers):
        mine = [leftover for leftover in leftovers if leftover.run == run]
        try:
            if run is None:
                deleted += [_delete(leftover) for leftover in mine]
                continue
            with writing(run):
                deleted += [_delete(leftover) for leftover in mine]
        except InputError as error:
            problems.append(str(error))
    return deleted, problems


def _delete(leftover: Leftover) -> Leftover:
    with explained(leftover.path):
        if leftover.path.is_dir() and not leftover.path.is_symlink():
            shutil.rmtree(leftover.path)
        else:
            leftover.path.unlink(missing_ok=True)
    return leftover


def _leftover(path: Path, run: Path | None) -> Leftover:
    kind = "unfinished write"
    if path.name.startswith(DELETED):
        kind = "deleted run"
    elif path.name.startswith(SET_ASIDE):
        kind = "damaged, set aside"
    size = sum(file.stat(follow_symlinks=False).st_size for file in _files(path))
    return Leftover(path, size, kind, run)


def _unneeded(folder: Path, deep: bool = True) -> Iterator[Path]:
    for entry in _entries(folder):
        hidden = entry.name.startswith(".")
        if entry.name.startswith((DELETED, SET_ASIDE)) or (hidden and entry.name.endswith(_PART)):
            yield Path(entry.path)
        elif deep and entry.is_dir(follow_symlinks=False):
            yield from _unneeded(Path(entry.path))


def _files(path: Path) -> Iterator[os.DirEntry[str] | Path]:
    if path.is_symlink() or not path.is_dir():
        yield path
        return
    for entry in _entries(path):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield entry


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what lies in a folder, without links; nothing if it is none."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if not entry.is_symlink()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(found, key=lambda entry: entry.name)
