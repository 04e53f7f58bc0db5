"""How long is left of some work, told from how long its parts have taken so far."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """The estimate of a loop.

    Args:
        total: parts there are, those done earlier included.
        clock: seconds that only grow.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock = total, clock
        self._first: tuple[float, int] | None = None

    def left(self, done: int) -> str:
        """ ", about 12 min left" once it is known, to be put behind the name of the stage; empty for the
        last few seconds. The first part, which warms up, does not count."""
        now = self._clock()
        if self._first is None:
            self._first = (now, done)
            return ""
        since, before = self._first
        if done <= before:
            return ""
        seconds = (now - since) / (done - before) * (self._total - done)
        return f", about {duration(seconds)} left" if seconds >= 10 else ""


def duration(seconds: float) -> str:
    """As one says it: 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{round(seconds / 10) * 10} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(round(minutes / 10) * 10, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
