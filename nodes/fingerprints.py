"""Whether ComfyUI may use a node's cached outputs.

ComfyUI keeps the outputs of a node while its inputs stay the same. Ours stand for files, which a user may
edit or delete between two runs: a node has to run again if a file that it read has changed, or one that it
wrote is gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..gdro_comfy.data import damage
from ..gdro_comfy.stages.base import Input, Stage
from ..gdro_comfy.stages.inputs import unlist
from .host import model_files

_WRITTEN_TYPES = frozenset({"GDRO_ROLLOUT", "GDRO_ALIGNED"})

_written: set[Path] = set()
_losses = 0


def record(stage: Stage, outputs: Iterable[Any]) -> None:
    """Remember the files that the outputs of a stage stand for."""
    for declared, value in zip(stage.outputs, outputs, strict=True):
        if declared.type == "GDRO_ROLLOUT":
            _written.add(value.run.folder / "run.json")
            _written.update(group.folder for group in value.groups())
            if value.score_file is not None:
                _written.add(value.run.folder / "scores" / value.score_file)
        elif declared.type == "GDRO_ALIGNED":
            # A training that was stopped has no such file any more once it is to go on.
            done = value.folder / "done.json"
            _written.update((value.path, value.folder, *([done] if done.is_file() else [])))


def fingerprint(stage: Stage, inputs: Mapping[str, Any]) -> list[Any]:
    """Return a value that changes when a stage has to run again with the same inputs."""
    if stage.takes_lists:
        inputs = unlist(stage.inputs, inputs)
    stamps = [_stamp(path) for path in _chosen_files(stage.inputs, inputs)]
    # The run comes over a connection, whose value is not known yet, so the files of all runs count.
    folders = sorted({path.parent for path in _written if path.name == "run.json"})
    watched = [folder / name for name in stage.watches for folder in folders]
    stamps += [_stamp(path) for path in watched if path.is_file()]
    writes = any(declared.type in _WRITTEN_TYPES for declared in stage.outputs)
    return [_count_losses() if writes else 0, *stamps]


def _count_losses() -> int:
    """Count how often something written was found to be gone.

    All runs share the counter: a stage that runs again for nothing finds its work on disk.
    """
    global _losses
    gone = {path for path in _written if not path.exists()}
    if gone:
        _losses += 1
        _written.difference_update(gone)
    # A stage that met a damaged file asks for another run, in which an earlier stage makes it anew.
    return _losses + damage.found()


def _chosen_files(declared: Sequence[Input], values: Mapping[str, Any]) -> list[Path]:
    """Return the files that are chosen by name in a stage's inputs."""
    paths: list[Path] = []
    for item in declared:
        value = values.get(item.name)
        if item.choices and isinstance(value, Mapping):
            paths += _chosen_files(item.choices.get(value.get(item.name, ""), ()), value)
        elif item.files and value:
            paths += [path for name, path in model_files(item.files).items() if name == value]
    return paths


def _stamp(path: Path) -> list[Any]:
    """Return name, modification time and size of a file, or of each file in a folder."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file.relative_to(path), file.stat()) for file in files if file.is_file()]
    return [(name.as_posix(), stat.st_mtime_ns, stat.st_size) for name, stat in stats]
