"""Numbers from outside: finite, or none."""

from __future__ import annotations

import math
import numbers
from typing import Any

_LARGEST = 3.4028234663852886e38
"""The largest float32."""


def finite_number(value: object) -> float | None:
    """Return a real number as a float; None for text, truth values, NaN, and what no float32 can hold.

    >>> finite_number(3), finite_number(True), finite_number(float("nan")), finite_number(10**400)
    (3.0, None, None, None)
    """
    if type(value) is float:  # most are, and asking for the others' class is slow
        return value if abs(value) <= _LARGEST else None
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) and abs(number) <= _LARGEST else None


def without_nan(value: Any) -> Any:
    """Return a JSON-able value with null in the place of numbers that JSON does not have (NaN, infinity)."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return value
