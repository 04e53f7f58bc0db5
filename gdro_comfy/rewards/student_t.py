"""Student's t: how far the mean of a few numbers may lie from the truth."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np


def t_probability(t: float, freedom: int) -> float:
    """Return the probability that Student's t is below ``t``, by its finite series.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.

    Args:
        t: any finite number.
        freedom: degrees of freedom, at least 1.
    """
    angle = math.atan2(t, math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    total, term = 0.0, cosine if odd else 1.0
    for n in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * n / (n + 1)
    inside = (angle + sine * total) * 2 / math.pi if odd else sine * total
    return (1 + inside) / 2


@lru_cache(maxsize=256)
def t_quantile(probability: float, freedom: int) -> float:
    """Return the t that Student's t stays below with a probability, to 12 digits.

    Args:
        probability: from 0.5 to below 1.
        freedom: degrees of freedom, at least 1.

    Raises:
        ValueError: an argument is out of its range.

    >>> round(t_quantile(0.975, 1), 3), round(t_quantile(0.975, 47), 4)
    (12.706, 2.0117)
    """
    if not 0.5 <= probability < 1 or freedom < 1:
        raise ValueError(f"no quantile for probability {probability}, freedom {freedom}")
    low, high = 0.0, 1.0
    while t_probability(high, freedom) < probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if t_probability(middle, freedom) < probability:
            low = middle
        else:
            high = middle
    return high


def is_above_zero(differences: np.ndarray, level: float) -> bool:
    """Return whether the mean of paired differences ``[n]`` is above 0, by a one-sided t test.

    One difference has no spread and shows nothing; many equal ones show their sign.

    Args:
        level: the probability of being right where the true mean is 0, from 0.5 to below 1.
    """
    n = len(differences)
    if n < 2:
        return False
    mean = float(differences.mean())
    error = float(differences.std(ddof=1)) / math.sqrt(n)
    return mean > 0 and mean > t_quantile(level, n - 1) * error
