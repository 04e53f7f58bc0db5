"""How far several rewards agree about the images of a rollout, and which of them decides."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

MIN_DEVIATION = 1e-6
"""Below it, values do not differ."""


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Return Pearson's r of the differences inside groups ``[groups, G]``; None where one has none.

    NaN, which both must have in the same places, does not count.
    """
    a, b = (np.nan_to_num(v - np.nanmean(v, 1, keepdims=True)) for v in (a, b))
    size = math.sqrt(float((a**2).sum()) * float((b**2).sum()))
    return float((a * b).sum()) / size if size > MIN_DEVIATION**2 else None


def _signed(correlation: float | None) -> str:
    return "no difference inside a group" if correlation is None else f"{correlation:+.2f}"


def describe(names: Sequence[str], values: np.ndarray, combined: np.ndarray) -> list[str]:
    """Describe how far rewards agree inside a group, and which of them decides the ranking.

    Args:
        names: of the rewards.
        values: ``[rewards, groups, G]``; NaN in all rewards for images that do not count.
        combined: the combined reward ``[groups, G]``, NaN in the same places.
    """
    some = ~np.isnan(combined).all(1)
    values, combined = values[:, some], combined[some]
    lines = ["How far they agree inside a group (1: the same order, -1: the opposite):"]
    for i, j in itertools.combinations(range(len(values)), 2):
        lines.append(f"  {names[i]} and {names[j]}: {_signed(correlation(values[i], values[j]))}")
    lines.append("With the combined reward:")
    correlations = [correlation(part, combined) for part in values]
    best = np.where(np.isnan(combined), -np.inf, combined).argmax(1)[:, None]
    for name, part, with_combined in zip(names, values, correlations, strict=True):
        highest = np.nanmax(part, 1) - MIN_DEVIATION
        same = int((np.take_along_axis(part, best, 1)[:, 0] >= highest).sum())
        lines.append(
            f"  {name}: {_signed(with_combined)}; the same best in {same} of {len(best)} groups"
        )
    known = {name: r for name, r in zip(names, correlations, strict=True) if r is not None}
    if not known:
        lines.append("No reward differs inside a group: there is nothing to learn.")
    else:
        lines.append(f"{max(known, key=lambda name: known[name])} decides the ranking most.")
    return lines


def describe_floors(
    names: Sequence[str], values: np.ndarray, floors: Mapping[int, float]
) -> list[str]:
    """Describe how many images and groups reach each floor.

    Args:
        names: of the rewards.
        values: ``[rewards, groups, G]``; NaN does not count.
        floors: the index of a reward -> its floor.
    """
    lines = []
    for index, floor in floors.items():
        with np.errstate(invalid="ignore"):
            reached = values[index] >= floor
        images, groups = int(reached.sum()), int(reached.any(1).sum())
        lines.append(
            f"{names[index]} reaches its floor of {floor:g} in {images} of "
            f"{int((~np.isnan(values[index])).sum())} pictures, and in {groups} of {len(reached)} groups."
        )
        if groups < len(reached):
            lines.append(
                f"  In the other {len(reached) - groups}, the picture nearest to the floor counts as the "
                "best."
            )
    return lines
