"""Coroutines run for a thread: their order, their number, and how they end."""

import asyncio
import threading
import time

import pytest

from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards.async_jobs import run_jobs

THREAD = "test-jobs"


def run(jobs, concurrency=4, check=lambda: None):
    return run_jobs(jobs, concurrency, check, THREAD)


def sleeping(seconds, result=None):
    async def job():
        await asyncio.sleep(seconds)
        return result

    return job


def failing(after=0.0):
    async def job():
        await asyncio.sleep(after)
        raise ValueError("broken")

    return job


def wait_for_the_thread_to_end():
    while any(thread.name == THREAD for thread in threading.enumerate()):
        time.sleep(0.01)


def test_results_come_as_jobs_finish():
    jobs = [sleeping(0.3, "slow"), sleeping(0.0, "fast")]
    assert list(run(jobs)) == [(1, "fast"), (0, "slow")]
    assert list(run([])) == []
    wait_for_the_thread_to_end()


def test_no_more_run_at_once_than_allowed():
    running, peak = 0, 0

    async def job():
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0.02)
        running -= 1

    assert len(list(run([job] * 10, concurrency=3))) == 10
    assert peak == 3


def test_a_failure_comes_after_earlier_results_and_stops_the_rest():
    results, started = [], []

    def collect(generator):
        for result in generator:
            results.append(result)

    async def never():
        started.append(1)
        await asyncio.sleep(600)

    with pytest.raises(ValueError, match="broken"):
        collect(run([sleeping(0.0, "first"), failing(0.1), *[never] * 5], concurrency=3))
    assert results == [(0, "first")]
    wait_for_the_thread_to_end()
    assert len(started) == 2


def test_cancelling_returns_at_once_and_ends_the_jobs():
    ended = threading.Event()

    async def job():
        try:
            await asyncio.sleep(600)
        finally:
            ended.set()

    start = time.monotonic()

    def check():
        if time.monotonic() - start > 0.2:
            raise Cancelled

    with pytest.raises(Cancelled):
        list(run([job], check=check))
    assert time.monotonic() - start < 30
    assert ended.wait(30)
    wait_for_the_thread_to_end()


def test_closing_the_generator_ends_the_jobs():
    results = run([sleeping(0.0, "first"), sleeping(600)])
    assert next(results) == (0, "first")
    results.close()
    wait_for_the_thread_to_end()


def test_a_job_that_cancels_itself_leaves_nobody_waiting():
    async def job():
        raise asyncio.CancelledError

    with pytest.raises(RuntimeError, match="ended without a result"):
        list(run([job]))
