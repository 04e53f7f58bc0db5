"""Disks that are full, read-only, forbidden or gone, in words: which one, what is kept, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError

_KEPT = "What is finished is kept: run again, and the work goes on from there."
_FULL = ("ENOSPC", "EDQUOT", "EFBIG")
_GONE = ("EIO", "ENOENT", "ENXIO", "ENODEV", "ESTALE")
_DISK_FULL_ON_WINDOWS = frozenset({39, 112})


class DiskError(InputError, OSError):
    """A file or folder that cannot be written, with the remedy.

    It is an ``OSError``, too, for callers that go on without the file or have a better name for it.

    Args:
        path: of the file or folder.
        error: of the operating system.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        words = _explanation(path, error)
        super().__init__(words.input_name, words.found, words.remedy)
        self.errno, self.strerror, self.filename = error.errno, error.strerror, str(path)

    def __str__(self) -> str:
        # As an OSError, it would show the number alone.
        return str(self.args[0])


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn an error of the operating system within this context into a ``DiskError``.

    Args:
        path: what is written, a file or a folder.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(path, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, as far as they do not exist.

    Raises:
        DiskError: it cannot be made.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)


def _explanation(path: Path, error: OSError) -> InputError:
    # By name: not every system has every number.
    number = errno.errorcode.get(error.errno or 0, "")
    reason, remedy = str(error.strerror or error), "Make the folder writable"
    if number in _FULL or getattr(error, "winerror", None) in _DISK_FULL_ON_WINDOWS:
        reason, remedy = f"{_disk(path)} is full, or your share of it", "Make room there"
    elif number == "EROFS":
        reason = f"{_disk(path)} is read-only"
        remedy = "Make it writable (a disk with errors may turn read-only: check it)"
    elif number in ("EACCES", "EPERM"):
        remedy = "Make the folder writable, close programs that have the file open"
    elif number in _GONE:
        reason = f"{reason}: {_disk(path)} does not answer, or the folder is gone"
        remedy = "Connect the disk again"
    return InputError(
        "output folder",
        f"{path} cannot be written ({reason})",
        f"{remedy}, or choose another output folder. {_KEPT}",
    )


def _disk(path: Path) -> str:
    """Name the disk of a path by where it is mounted; on Windows by its letter."""
    folder = Path(os.path.abspath(path))
    with contextlib.suppress(OSError):
        while not os.path.ismount(folder) and folder != folder.parent:
            folder = folder.parent
    return f"the disk at {folder}"
