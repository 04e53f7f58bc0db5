"""Files of a run that are damaged: in words, counted, and out of the way of what is made anew."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from .disk import explained

log = logging.getLogger(__name__)

SET_ASIDE = ".damaged-"
"""How the name of a file starts that was set aside."""

CHANGED = "its checksum does not fit its content"

REMADE = "Run the workflow again: it is made anew"

_found = 0


class DamagedFile(InputError):
    """A file of a run that cannot be read, or whose checksum does not fit its content.

    Args:
        path: the file.
        found: what is wrong with it, as a sentence about "it"; ``reason`` afterwards.
        remedy: what to do.
    """

    def __init__(self, path: Path, found: str, remedy: str) -> None:
        global _found
        _found += 1
        self.path, self.reason = path, found
        super().__init__("output folder", f"{path} is damaged: {found}", remedy)


def found() -> int:
    """Return how many damaged files this process has met.

    What it grows by tells whether stages have to look at the disk again.
    """
    return _found


def set_aside(path: Path) -> None:
    """Rename a damaged file, so that it counts as missing; ``gdro-comfy gc`` deletes it.

    Call it while holding the lock of the run.
    """
    with explained(path):
        os.replace(path, path.with_name(SET_ASIDE + path.name.lstrip(".")))
    log.warning("%s is damaged: it was set aside as %s%s", path, SET_ASIDE, path.name)


@contextlib.contextmanager
def setting_aside() -> Iterator[None]:
    """Set aside what turns out to be damaged within this context, so that the next run makes it anew.

    It is for files that can be made anew. Call it while holding the lock of the run.
    """
    try:
        yield
    except DamagedFile as error:
        if error.path.is_file():
            set_aside(error.path)
        raise
