"""Ways to order images that no weighted sum has: a floor under one reward, and Pareto dominance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

import numpy as np

from ..errors import InputError

_FLOOR = re.compile(r"(\w+)(?:\s*(?:>=|=|:)\s*|\s+)([-+.\w]+)", re.ASCII)


def read_floors(
    text: str, names: Sequence[str], ranges: Sequence[tuple[float, float]]
) -> dict[int, float]:
    """Read floors from text such as "composition 0.8, ocr >= 0.5": the reward's index -> its floor.

    Args:
        names: of the rewards; reward0, reward1, ... work too.
        ranges: worst and best value of each.

    Raises:
        InputError: a part cannot be read, names no reward, or is a floor that every or no image reaches.
    """
    floors: dict[int, float] = {}
    known = {**{f"reward{i}": i for i in range(len(names))}, **{n: i for i, n in enumerate(names)}}
    for part in filter(None, (piece.strip() for piece in re.split(r"[,;\n]", text))):
        match = _FLOOR.fullmatch(part)
        value = _number(match[2]) if match else math.nan
        if match is None or not math.isfinite(value):
            raise InputError(
                "floors",
                f"{part[:60]!r} is no reward with a number",
                "Write the reward and the least that is enough: composition 0.8",
            )
        if match[1] not in known:
            raise InputError(
                "floors",
                f"there is no reward {match[1][:60]!r}",
                f"The rewards are: {', '.join(names)}.",
            )
        index = known[match[1]]
        worst, best = ranges[index]
        if not worst < value <= best:
            raise InputError(
                "floors",
                f"{value:g} for {names[index]}, which goes from {worst:g} to {best:g}, is reached by "
                f"{'no' if value > best else 'every'} image",
                "Choose a number above the first and not above the second.",
            )
        floors[index] = value
    return floors


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def above_floors(
    values: np.ndarray,
    combined: np.ndarray,
    floors: Mapping[int, float],
    ranges: Sequence[tuple[float, float]],
    combined_range: tuple[float, float] | None,
) -> np.ndarray:
    """Order images by their floors first, then by the combined reward.

    An image that reaches every floor gets 0.5 to 1, by its combined reward. Any other gets 0 to less than
    0.5, by how near it is: the mean over the floors of ``(value - worst) / (floor - worst)``, at most 1 each.
    Where no image of a group reaches the floors, the nearest one therefore counts as the best.

    Args:
        values: ``[rewards, ...]``.
        combined: ``[...]``; where it is not finite, so is the result.
        ranges: worst and best value of each reward.
        combined_range: of the combined reward; None if it has no bounds (standard deviations).

    Returns:
        ``[...]``, from 0 to 1 for values within the ranges.
    """
    reached = np.ones(combined.shape, bool)
    nearness = np.zeros(combined.shape)
    for index, floor in floors.items():
        worst = ranges[index][0]
        reached &= values[index] >= floor
        nearness += ((values[index] - worst) / (floor - worst)).clip(0, 1) / len(floors)
    if combined_range is None:
        with np.errstate(invalid="ignore"):  # inf / inf becomes NaN, which is not finite either
            part = (1 + combined / (1 + np.abs(combined))) / 2
    else:
        low, high = combined_range
        part = (combined - low) / (high - low) if high > low else np.full(combined.shape, 0.5)
    passed = 0.5 + np.maximum(part, 0.0) / 2
    ordered = np.where(reached, passed, np.minimum(nearness, 1 - 1e-6) / 2)
    return np.where(np.isfinite(combined), ordered, combined)


def dominance(values: np.ndarray) -> np.ndarray:
    """Rank the images of each group by Pareto dominance, whatever the scales of the rewards.

    An image dominates another if it is at least as good in every reward and better in one. Its value is
    ``(1 + (dominated - dominating) / (n - 1)) / 2`` of the ``n`` images of its group: 1 if it dominates all
    others, 0 if all dominate it, 0.5 if it is incomparable with all. One that dominates another always has
    the higher value.

    Args:
        values: ``[rewards, groups, G]``; an image with NaN is left out.

    Returns:
        ``[groups, G]``, NaN where an image is left out.
    """
    first, second = values[..., :, None], values[..., None, :]
    with np.errstate(invalid="ignore"):
        dominates = (first >= second).all(0) & (first > second).any(0)
    known = ~np.isnan(values).any(0)
    balance = dominates.sum(-1) - dominates.sum(-2)
    others = np.maximum(known.sum(-1, keepdims=True) - 1, 1)
    return np.where(known, (1 + balance / others) / 2, np.nan)
