"""Several processes on one run: who makes which groups, and what they tell each other.

A launcher (``torchrun``, ``accelerate launch``) starts the same command several times. The processes meet in
PyTorch's key-value store, which the launcher's variables name; they exchange JSON alone, no tensors, so that
the same code serves GPUs and CPUs. Process 0 is the main one: it holds the lock of a run, deals out the work,
and writes every file that belongs to no single group. All processes must come to the same calls in the same
order. Whoever waits here looks for the failure of another at once, and so does ``check``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from .errors import InputError
from .progress import Cancelled

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_POLL = 0.05
"""Seconds between two looks at the store while waiting."""
_LOOK = 0.5
"""Seconds between two looks for failures while working."""
_FAILED = "failed"


class OtherProcessFailed(RuntimeError):
    """Another process of this run has failed or was stopped; the message says which and why."""


class World:
    """The processes that work together on a run.

    Args:
        rank: number of this process, from 0.
        size: number of processes.
        store: where they exchange messages; None for a process on its own.
    """

    def __init__(self, rank: int = 0, size: int = 1, store: Store | None = None) -> None:
        self.rank, self.size, self._store = rank, size, store
        self._calls = 0
        self._looked = 0.0
        self._stopped = False

    @property
    def is_main(self) -> bool:
        """Whether this process holds the lock of runs and deals out the work."""
        return self.rank == 0

    def check(self) -> None:
        """Look whether another process has failed, twice a second at most.

        Raises:
            OtherProcessFailed: one has, or the store is gone, as it is once its process has ended.
        """
        if self._store is None or time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        self._raise_failure()

    def stop(self) -> None:
        """Let this process wait for the others no longer: ``Cancelled`` is raised instead."""
        self._stopped = True

    def fail(self, message: str) -> bool:
        """Tell the others that this process ends.

        Returns:
            Whether it is the first to say so.
        """
        if self._store is None:
            return True
        try:
            if self._store.add("failures", 1) > 1:
                return False
            self._store.set(_FAILED, json.dumps([self.rank, message]))
        except RuntimeError:
            return False
        return True

    def leave(self) -> None:
        """Say that this process has no more work; the main one, which may hold the store, waits for all.

        Raises:
            OtherProcessFailed: one has failed.
        """
        if self._store is not None and not self.is_main:
            self._set(f"left/{self.rank}", None)
        elif self._store is not None:
            for rank in range(1, self.size):
                self._get(f"left/{rank}")

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self._store is None:
            return
        name = self._name()
        self._set(f"{name}/{self.rank}", None)
        for rank in range(self.size):
            self._get(f"{name}/{rank}")

    def agree(self, decide: Callable[[], Any]) -> Any:
        """Return what ``decide`` returns in the main process, as JSON keeps it; the others do not call it."""
        if self._store is None:
            return decide()
        name = self._name()
        if not self.is_main:
            return self._get(name)
        value = decide()
        self._set(name, value)
        return value

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Enter this context in the main process first, and in the others once it has left it."""
        if not self.is_main:
            self.agree(lambda: None)
        yield
        if self.is_main:
            self.agree(lambda: None)

    def mailbox(self) -> Mailbox:
        """Return a way for the others to send to the main process what it is to write."""
        return Mailbox(self, self._name())

    def _name(self) -> str:
        self._calls += 1
        return f"call-{self._calls}"

    def _set(self, key: str, value: Any) -> None:
        assert self._store is not None
        try:
            self._store.set(key, json.dumps(value))
        except RuntimeError as error:
            raise _gone() from error

    def _has(self, key: str) -> bool:
        assert self._store is not None
        try:
            return self._store.check([key])
        except RuntimeError as error:
            raise _gone() from error

    def _get(self, key: str) -> Any:
        assert self._store is not None
        while not self._has(key):
            self._raise_failure()
            time.sleep(_POLL)
        try:
            return json.loads(self._store.get(key))
        except RuntimeError as error:
            raise _gone() from error

    def _raise_failure(self) -> None:
        if self._stopped:
            raise Cancelled
        if self._has(_FAILED):
            assert self._store is not None
            rank, message = json.loads(self._store.get(_FAILED))
            raise OtherProcessFailed(f"process {rank} has ended: {message}")


class Mailbox:
    """Sends JSON from the other processes to the main one, while both work."""

    def __init__(self, world: World, name: str) -> None:
        self._world, self._name = world, name
        self._sent = 0
        self._read = dict.fromkeys(range(1, world.size), 0)

    def send(self, value: Any) -> None:
        """Send a value to the main process; it returns at once."""
        self._world._set(f"{self._name}/{self._world.rank}/{self._sent}", value)
        self._sent += 1

    def close(self) -> None:
        """Say that this process sends no more."""
        self.send(None)

    def arrived(self) -> Iterator[Any]:
        """Yield what has arrived in the main process, without waiting."""
        for rank in list(self._read):
            while rank in self._read and self._world._has(self._key(rank)):
                value = self._next(rank)
                if value is not None:
                    yield value

    def rest(self) -> Iterator[Any]:
        """Yield everything that arrives, until all others have closed theirs."""
        while self._read:
            yield from self.arrived()
            if self._read:
                self._world._raise_failure()
                time.sleep(_POLL)

    def _key(self, rank: int) -> str:
        return f"{self._name}/{rank}/{self._read[rank]}"

    def _next(self, rank: int) -> Any:
        value = self._world._get(self._key(rank))
        assert self._world._store is not None
        self._world._store.delete_key(self._key(rank))
        self._read[rank] += 1
        if value is None:
            del self._read[rank]
        return value


def shares(costs: Sequence[int], size: int) -> list[list[int]]:
    """Split work into contiguous shares of about equal cost, each item in exactly one.

    Args:
        costs: of each item.
        size: number of shares.

    Returns:
        For each share the first item, and the one after its last.

    >>> shares([4, 4, 4, 4, 4], 2)
    [[0, 3], [3, 5]]
    >>> shares([0, 0, 4, 4], 2)
    [[0, 3], [3, 4]]
    """
    total, done, starts = sum(costs), 0, [0]
    for index, cost in enumerate(costs):
        # An item belongs to the share in which its middle lies.
        while len(starts) < size and (2 * done + cost) * size >= 2 * total * len(starts) and cost:
            starts.append(index)
        done += cost
    starts += [len(costs)] * (size + 1 - len(starts))
    return [[start, end] for start, end in itertools.pairwise(starts)]


_ALONE = World()
_worlds = [_ALONE]


def world() -> World:
    """Return the processes that this one works with; only itself by default."""
    return _worlds[-1]


@contextlib.contextmanager
def within(joined: World) -> Iterator[World]:
    """Work with these processes in this context."""
    _worlds.append(joined)
    try:
        yield joined
    finally:
        _worlds.pop()


def alone() -> contextlib.AbstractContextManager[World]:
    """Return a context in which this process works on its own, whatever others do."""
    return within(_ALONE)


def launched_size(environment: Mapping[str, str] = os.environ) -> int:
    """Return how many processes a launcher has started of this command; 1 without one.

    Raises:
        InputError: its variables are no numbers, or do not fit together.
    """
    try:
        size, rank = int(environment.get("WORLD_SIZE", 1)), int(environment.get("RANK", 0))
    except ValueError as error:
        raise InputError("launcher", str(error), "Start it with torchrun or accelerate.") from error
    missing = [n for n in ("RANK", "MASTER_ADDR", "MASTER_PORT") if n not in environment]
    if size > 1 and (missing or not 0 <= rank < size):
        raise InputError(
            "launcher",
            f"WORLD_SIZE is {size}, and {' and '.join(missing) or f'RANK {rank}'} "
            f"{'are missing' if missing else 'is not below it'}",
            "Start it with torchrun or accelerate launch, or unset WORLD_SIZE.",
        )
    return size


def join() -> World:
    """Meet the processes that the launcher has started; its variables say where.

    Raises:
        InputError: they do not answer.
    """
    if launched_size() == 1:
        return _ALONE
    from torch.distributed.rendezvous import rendezvous

    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=timedelta(minutes=5))))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            "launcher",
            f"the processes do not find each other ({str(error).splitlines()[0]})",
            "MASTER_ADDR and MASTER_PORT must name the computer of process 0, which all can reach.",
        ) from error
    return World(rank, size, store)


def _gone() -> OtherProcessFailed:
    return OtherProcessFailed("the process that the others meet at has ended")
