"""Commands to a training: end now, or save the LoRA as it is; or go on after that end.

A command is a file in the training's folder, so that it reaches the training from any process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import write_atomic, write_lines
from ..data.run_lock import writing
from ..data.trainings import Training
from ..errors import InputError

if TYPE_CHECKING:
    from .trainer import Trainer

COMMANDS = ("stop", "save")


def send(folder: Path, command: str) -> None:
    """Send a command to the training in this folder.

    Raises:
        InputError: the command is unknown, or the training has ended.
    """
    if command not in COMMANDS:
        raise InputError(
            "wish", f"{command[:60]!r} is unknown", f"Use one of: {', '.join(COMMANDS)}."
        )
    if Training(folder).done.is_file():
        raise InputError("wish", "this training has ended", "Its LoRA is finished.")
    write_atomic(_path(folder, command), lambda file: None)


def reopen(folder: Path) -> None:
    """Let a training that was stopped before its last step go on when its graph is queued again.

    Its LoRA stays in its place until the training ends again.

    Raises:
        InputError: it has not ended, or was not stopped; or another process writes into the run.
    """
    training = Training(folder)
    rows = training.rows()
    if not training.done.is_file():
        raise InputError("wish", "this training has not ended", "Press Run: it resumes.")
    if not any(row.get("stopped") for row in rows):
        raise InputError(
            "wish", "this training took all of its steps", "Raise steps for a longer training."
        )
    with writing(training.run_folder):
        write_lines(
            training.history,
            [{key: row[key] for key in row if key != "stopped"} for row in rows],
        )
        training.done.unlink()


def clear(folder: Path) -> None:
    """Drop all commands, such as those to a training that was not running."""
    for command in COMMANDS:
        _path(folder, command).unlink(missing_ok=True)


def _path(folder: Path, command: str) -> Path:
    return folder / f"wish-{command}"


class CommandWatcher:
    """Carry out commands after each step.

    Args:
        folder: of the training.
        save: writes the LoRA of the step.
    """

    def __init__(self, folder: Path, save: Callable[[Trainer], None]) -> None:
        self.folder, self.save = folder, save
        clear(folder)

    def __call__(self, trainer: Trainer, row: dict[str, Any]) -> bool:
        if _path(self.folder, "save").is_file():
            self.save(trainer)
            row["saved"] = True
        stop = _path(self.folder, "stop").is_file()
        clear(self.folder)
        return stop
