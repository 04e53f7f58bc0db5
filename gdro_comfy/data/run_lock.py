"""The lock of a run: one process at a time writes into its folder.

    <run>-<key>/.writer.lock    locked by the operating system for as long as somebody writes
    <run>-<key>/.writer.json    who that is: "pid", "host", "program", "since"

The operating system drops the lock when its process ends, however it ends, so a record without a lock is
left over from a process that was killed. Locks may not reach from one computer to another: a record of
another host counts until its process or the user removes it. Readers need no lock, nor do ratings and
commands, which the server writes while another process trains.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..distributed import world
from ..errors import InputError
from .disk import DiskError, make_folder
from .files import write_json

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger(__name__)

LOCK, RECORD = ".writer.lock", ".writer.json"
"""Files inside a run; lists of its contents leave out hidden ones."""

_INPUT = "output folder"
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL})
"""What disks answer that know no locks."""


@dataclass
class _Hold:
    """A lock that this process has, and how often it was asked for."""

    lock: BaseFileLock | None
    times: int = 0


_held: dict[str, _Hold] = {}
_guard = threading.Lock()


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Be the only process that writes into a run, within this context.

    The process may ask again while it has the lock, as an evaluation inside a training does. A lock
    left by a process that was killed is taken over, with a word in the log. Of several processes that work
    together, the main one takes the lock for all of them.

    Args:
        folder: of the run; created if needed.

    Raises:
        InputError: another process writes into it, or a computer whose processes cannot be seen from
            here did; or the folder cannot be written.
    """
    if not world().is_main:
        yield
        return
    key = os.path.realpath(folder)
    with _guard:
        if key not in _held:
            _held[key] = _take(folder)
        hold = _held[key]
        hold.times += 1
    try:
        yield
    finally:
        with _guard:
            hold.times -= 1
            if not hold.times:
                del _held[key]
                _let_go(folder, hold)


def _take(folder: Path) -> _Hold:
    make_folder(folder)
    hold = _Hold(_lock(folder))
    try:
        _take_over(folder)
        write_json(
            folder / RECORD,
            {
                "pid": os.getpid(),
                "host": platform.node(),
                "program": Path(sys.argv[0]).name,
                "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            },
        )
    except BaseException:
        if hold.lock is not None:
            hold.lock.release()
        raise
    return hold


def _lock(folder: Path) -> BaseFileLock | None:
    """Lock the file; None where the disk knows no locks.

    Raises:
        InputError: another process has it, or the file cannot be written.
    """
    from filelock import FileLock, Timeout

    # The thread that releases may be another than the one that took it.
    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            _INPUT,
            f"{folder.name} is being written by {_writer(folder) or 'another process'}",
            "Let it finish, or stop it, and run again: what is finished is not made twice. To work "
            "side by side, choose another run name or output folder.",
        ) from error
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise DiskError(folder, error) from error
        log.warning(
            "%s is on a disk without locks (%s): do not run two processes on it", folder, error
        )
        return None
    return lock


def _take_over(folder: Path) -> None:
    """Say whose lock is taken over, if a process left one; refuse that of another computer."""
    record = _record(folder)
    if not record:
        return
    if record.get("host") != platform.node():
        raise InputError(
            _INPUT,
            f"{folder.name} is being written by {_writer(folder)}, or that process was killed",
            "If it still works, let it finish. If it does not, or that computer is gone or has another "
            f"name now, delete {folder / RECORD} and run again: no picture is lost.",
        )
    log.warning(
        "%s was being written by %s, which was killed: going on from what it stored",
        folder.name,
        _writer(folder),
    )


def _let_go(folder: Path, hold: _Hold) -> None:
    # On a disk that is gone, the record stays as that of a killed process does.
    with contextlib.suppress(OSError):
        (folder / RECORD).unlink()
    if hold.lock is not None:
        with contextlib.suppress(OSError):
            hold.lock.release()


def _record(folder: Path) -> dict[str, object]:
    """Read who writes; empty if nobody does. A damaged record is one of this computer, unnamed."""
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        record = None
    if isinstance(record, dict) and isinstance(record.get("host"), str):
        return record
    return {"host": platform.node()}


def _writer(folder: Path) -> str:
    """Return who writes in words; empty if nobody is on record."""
    record = _record(folder)
    if not record:
        return ""
    host = record["host"]
    where = "this computer" if host == platform.node() else f"the computer {str(host)[:60]!r}"
    program = f" ({str(record['program'])[:60]})" if record.get("program") else ""
    since = f", since {str(record['since'])[:25]}" if record.get("since") else ""
    return f"process {str(record.get('pid', 'unknown'))[:12]}{program} on {where}{since}"
