"""Estimate how long a loop still takes from the speed of its earlier iterations."""

from __future__ import annotations

import time
from collections.abc import Callable


class TimeLeft:
    """Estimate of the time that a loop still takes.

    Args:
        total: number of items, including those finished before this process started.
        clock: returns seconds and never goes backwards.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._start: tuple[float, int] | None = None

    def suffix(self, done: int) -> str:
        """Return text to append to the name of the stage, such as ", about 12 min left".

        It is empty on the first call, which only starts the clock because the first items include
        warm-up, and when less than 10 seconds are left.

        Args:
            done: number of finished items.
        """
        now = self._clock()
        if self._start is None:
            self._start = (now, done)
            return ""
        start_time, start_done = self._start
        if done <= start_done:
            return ""
        seconds = (now - start_time) / (done - start_done) * (self._total - done)
        return f", about {duration(seconds)} left" if seconds >= 10 else ""


def duration(seconds: float) -> str:
    """Return a duration in rounded words: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{round(seconds / 10) * 10} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(round(minutes / 10) * 10, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
