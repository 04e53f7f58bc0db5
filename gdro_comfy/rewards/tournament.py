"""Which images of a group meet, who comes first, and what the verdicts are worth."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np


def schedule(count: int, opponents: int, seed: str) -> list[tuple[int, int]]:
    """Return the pairs of a group ``(first, second)``, each at most once.

    With ``opponents`` of ``count - 1`` or more, every image meets every other. With fewer, each meets that
    many, rounded up to an even number, and comes first exactly as often as second. Among all pairs of an even
    number of images, one half of the images comes first once more than second.

    Args:
        count: images of the group, at least 2.
        opponents: of each image, at least 1.
        seed: the same seed gives the same pairs.
    """
    rng = random.Random(seed)
    seats = list(range(count))
    rng.shuffle(seats)
    distances = list(range(1, (count - 1) // 2 + 1))
    everyone = opponents >= count - 1
    if not everyone:
        wanted = -(-opponents // 2)
        distances = sorted(rng.sample(distances, min(wanted, len(distances))))
    # Around a table, each image is the first against those that sit so many seats to its right.
    pairs = [(seats[i], seats[(i + d) % count]) for d in distances for i in range(count)]
    if everyone and count % 2 == 0:
        half = count // 2
        pairs += [(seats[i], seats[i + half]) for i in range(half)]
    return pairs


def win_rates(
    count: int, pairs: Sequence[tuple[int, int]], points: Sequence[float | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's wins plus half of its ties, as a share of its comparisons, and their number.

    Args:
        count: images.
        pairs: who met.
        points: of the first image in each pair: 1 for a win, 0.5 for a tie, 0 for a loss; None if there was
            no verdict, which then counts for neither.

    Returns:
        Float64 ``[count]``, 0.5 for an image without a verdict; and the number of verdicts, int ``[count]``.
    """
    won, met = np.zeros(count), np.zeros(count, int)
    for (first, second), point in zip(pairs, points, strict=True):
        if point is None:
            continue
        won[first] += point
        won[second] += 1 - point
        met[first] += 1
        met[second] += 1
    return np.where(met > 0, won / np.maximum(met, 1), 0.5), met
