"""When ComfyUI may no longer use what it cached: a file that was read has changed, or one that was
written is gone.

ComfyUI keeps a node's outputs as long as its inputs stay the same. Ours stand for files, which a user
may edit or delete between two runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..gdro_comfy.stages.base import Input, Stage
from ..gdro_comfy.stages.inputs import unlist
from .host import model_files

_WRITES = frozenset({"GDRO_ROLLOUT", "GDRO_ALIGNED"})

_written: set[Path] = set()
_losses = 0


def remember(stage: Stage, outputs: Iterable[Any]) -> None:
    """Note the files that these outputs of a stage stand for."""
    for declared, value in zip(stage.outputs, outputs, strict=True):
        if declared.type == "GDRO_ROLLOUT":
            _written.add(value.run.folder / "run.json")
            _written.update(group.folder for group in value.groups())
            if value.score_file is not None:
                _written.add(value.run.folder / "scores" / value.score_file)
        elif declared.type == "GDRO_ALIGNED":
            _written.update((value.path, value.folder))


def fingerprint(stage: Stage, inputs: Mapping[str, Any]) -> list[Any]:
    """Differs from that of the last run if the stage has to run again although its inputs are the same."""
    if stage.takes_lists:
        inputs = unlist(stage.inputs, inputs)
    stamps = [_stamp(path) for path in _read(stage.inputs, inputs)]
    # Which run it is comes over a connection, which is not known here: those of all runs count.
    folders = sorted({path.parent for path in _written if path.name == "run.json"})
    watched = [folder / name for name in stage.watches for folder in folders]
    stamps += [_stamp(path) for path in watched if path.is_file()]
    writes = any(declared.type in _WRITES for declared in stage.outputs)
    return [_count_losses() if writes else 0, *stamps]


def _count_losses() -> int:
    """How often something written was found to be gone. All runs count together: a stage that runs
    again in vain finds its work on disk."""
    global _losses
    gone = {path for path in _written if not path.exists()}
    if gone:
        _losses += 1
        _written.difference_update(gone)
    return _losses


def _read(declared: Sequence[Input], given: Mapping[str, Any]) -> list[Path]:
    """The files that are chosen by name in a stage's inputs."""
    found: list[Path] = []
    for item in declared:
        value = given.get(item.name)
        if item.choices and isinstance(value, Mapping):
            found += _read(item.choices.get(value.get(item.name, ""), ()), value)
        elif item.files and value:
            found += [path for name, path in model_files(item.files).items() if name == value]
    return found


def _stamp(path: Path) -> list[Any]:
    """Name of a file, or of each in a folder, when it was last written, and its size."""
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    stats = [(file.relative_to(path), file.stat()) for file in files if file.is_file()]
    return [(name.as_posix(), stat.st_mtime_ns, stat.st_size) for name, stat in stats]
