"""What a viewer asks of a training that runs: to end now, or to write the LoRA as it is.

A wish is a file in the training's folder, so that it reaches the training from wherever it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import write_atomic
from ..errors import InputError

if TYPE_CHECKING:
    from .trainer import Trainer

WISHES = ("stop", "save")


def make(folder: Path, wish: str) -> None:
    """Ask the training in this folder for something."""
    if wish not in WISHES:
        raise InputError("wish", f"{wish[:60]!r} is unknown", f"Use one of: {', '.join(WISHES)}.")
    if (folder / "done.json").is_file():
        raise InputError("wish", "this training has ended", "Its LoRA is finished.")
    write_atomic(_path(folder, wish), lambda file: None)


def forget(folder: Path) -> None:
    """Drop what was asked of a training that did not run."""
    for wish in WISHES:
        _path(folder, wish).unlink(missing_ok=True)


def _path(folder: Path, wish: str) -> Path:
    return folder / f"wish-{wish}"


class Wishes:
    """Fulfils the wishes after each step.

    Args:
        save: writes the LoRA as it is by then.
    """

    def __init__(self, folder: Path, save: Callable[[Trainer], None]) -> None:
        self.folder, self.save = folder, save
        forget(folder)

    def __call__(self, trainer: Trainer, row: dict[str, Any]) -> bool:
        if _path(self.folder, "save").is_file():
            self.save(trainer)
            row["saved"] = True
        stop = _path(self.folder, "stop").is_file()
        forget(self.folder)
        return stop
