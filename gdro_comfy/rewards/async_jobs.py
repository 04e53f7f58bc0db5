"""Coroutines for a caller that is an ordinary thread: run several at once, cancel them at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

T = TypeVar("T")
Job = Callable[[], Coroutine[Any, Any, T]]
if TYPE_CHECKING:
    _Results = queue.SimpleQueue[tuple[int, T] | Exception]

_POLL = 0.1  # seconds between two checks of the user's cancel button
_LINGER = 0.25  # seconds for TLS connections to close, as aiohttp recommends


def run_jobs(
    jobs: Sequence[Job[T]], concurrency: int, check_cancelled: Callable[[], None], thread_name: str
) -> Generator[tuple[int, T], None, None]:
    """Yield ``(index, result)`` of each job, in the order in which they finish.

    The jobs run on the event loop of a thread made for them, at most ``concurrency`` at once. They are
    cancelled when one fails, when ``check_cancelled`` raises, and when this generator is closed; the
    caller does not wait for them to end. Results that arrived before a failure are yielded first.

    Args:
        jobs: functions that return a coroutine.
        check_cancelled: called in the caller's thread every 0.1 s.
        thread_name: of the thread with the event loop.
    """
    if not jobs:
        return
    results: _Results[T] = queue.SimpleQueue()
    cancel = _start(jobs, min(concurrency, len(jobs)), results, thread_name)
    try:
        for _ in jobs:
            try:
                result = _next_result(results, check_cancelled)
            except BaseException:
                cancel()
                yield from _arrived(results)
                raise
            yield result
    finally:
        cancel()


def _start(
    jobs: Sequence[Job[T]], concurrency: int, results: _Results[T], thread_name: str
) -> Callable[[], None]:
    """Start the jobs in a thread and return a function that cancels them."""
    pending = enumerate(jobs)  # shared by the workers
    loop = asyncio.new_event_loop()

    async def work() -> None:
        for index, job in pending:
            try:
                results.put((index, await job()))
            except Exception as error:
                results.put(error)
                stop()
                return

    workers = [loop.create_task(work()) for _ in range(concurrency)]

    def stop() -> None:
        for worker in workers:
            worker.cancel()

    async def main() -> None:
        await asyncio.wait(workers)
        # Read only if a job cancelled itself; the caller would wait for its result for ever.
        results.put(RuntimeError("a job ended without a result"))
        await asyncio.sleep(_LINGER)

    def run() -> None:
        with contextlib.closing(loop):
            loop.run_until_complete(main())

    def cancel() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the jobs have ended
            loop.call_soon_threadsafe(stop)

    # A daemon, so that a job that cannot be interrupted does not keep the program alive.
    threading.Thread(target=run, daemon=True, name=thread_name).start()
    return cancel


def _next_result(results: _Results[T], check_cancelled: Callable[[], None]) -> tuple[int, T]:
    while True:
        check_cancelled()
        try:
            result = results.get(timeout=_POLL)
        except queue.Empty:
            continue
        if isinstance(result, Exception):
            raise result
        return result


def _arrived(results: _Results[T]) -> Generator[tuple[int, T], None, None]:
    """Yield the results among what is left in the queue."""
    while not results.empty():
        result = results.get()
        if not isinstance(result, Exception):
            yield result
