"""Commands to a running training: end now, or save the LoRA as it is.

A command is a file in the training's folder, so that it reaches the training from any process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import write_atomic
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
