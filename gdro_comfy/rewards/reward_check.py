"""What a reward is worth on a scored rollout, before anything is trained with it.

A reward teaches nothing where it is equal inside a group, is fooled cheaply where it follows the brightness
or the size of the file, and is beside the point where it orders pictures otherwise than their creator does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .agreement import MIN_DEVIATION, correlation
from .measure import MEASURES

if TYPE_CHECKING:
    from ..data.rollout import Rollout

_SUSPICIOUS = 0.5  # correlation inside groups from which a cheap property may be what is learned
_FEW_PAIRS = 20  # of rated pictures: with fewer, an agreement says little
_EXAMPLES = 6


class Disagreement(NamedTuple):
    """A group in which two rewards prefer different images: the index of the group and of both images."""

    group: int
    preferred: int
    by_other: int


def cheap_properties(
    rollout: Rollout, check_cancelled: Callable[[], None] = lambda: None
) -> dict[str, np.ndarray]:
    """Return what a reward should not follow, of each image ``[groups, G]`` by name."""
    rows: dict[str, list[float]] = {}
    for group in rollout.groups():
        for index in range(rollout.images_per_prompt):
            check_cancelled()
            image = group.image(index)
            pixels = np.asarray(image, np.float64) / 255
            properties = {
                "file size": float(group.image_path(index).stat().st_size),
                "resolution": float(image.width * image.height),
                **{name: measure(pixels) for name, measure in MEASURES.items()},
            }
            for name, value in properties.items():
                rows.setdefault(name, []).append(value)
    shape = (len(rollout.prompts), rollout.images_per_prompt)
    return {name: np.array(values).reshape(shape) for name, values in rows.items()}


def describe_spread(values: np.ndarray) -> list[str]:
    """Describe how far values ``[groups, G]`` differ inside groups, and how often one image is the best."""
    known = values[(~np.isnan(values)).sum(1) > 1]
    if not len(known):
        return ["No group has two pictures with a reward."]
    highest = np.nanmax(known, 1)
    equal = highest - np.nanmin(known, 1) <= MIN_DEVIATION
    with np.errstate(invalid="ignore"):
        best = (known >= highest[:, None] - MIN_DEVIATION).sum(1)
    spread, total = float(np.nanstd(known, 1).mean()), float(np.nanstd(known))
    share = spread / total if total > MIN_DEVIATION else 0.0
    lines = [
        f"Spread inside groups: {spread:.4g} (standard deviation), {100 * share:.0f} % of that over all "
        "pictures.",
        f"One picture is the best alone in {int((best == 1).sum())} of {len(known)} groups; in "
        f"{int(equal.sum())} all are equal, and teach nothing.",
    ]
    if spread > MIN_DEVIATION:
        lines.append(f"A temperature to begin with: {spread / 5:.2g}, a fifth of that spread.")
    return lines


def describe_cheap(values: np.ndarray, properties: Mapping[str, np.ndarray]) -> list[str]:
    """Describe how far the values follow cheap properties of the images inside groups, and name the worst."""
    left_out = np.isnan(values)
    some = ~left_out.all(1)
    lines, suspicious = ["Agreement inside groups with what is cheap to fool (-1 to 1):"], []
    for name, one in properties.items():
        agreement = correlation(values[some], np.where(left_out, np.nan, one)[some])
        shown = "no difference" if agreement is None else f"{agreement:+.2f}"
        lines.append(f"  {name}: {shown}")
        if agreement is not None and abs(agreement) >= _SUSPICIOUS:
            suspicious.append(f"{'more' if agreement > 0 else 'less'} {name}")
    if suspicious:
        lines.append(
            f"A model may please this reward with {' and '.join(suspicious)} alone: combine it, or use a "
            "guard."
        )
    return lines


def describe_stars(values: np.ndarray, stars: np.ndarray) -> list[str]:
    """Describe how often the values order two images of a group as the creator's ratings do.

    Args:
        values: ``[groups, G]``.
        stars: of the same images, higher is better; NaN where one is not rated.
    """
    images = int((~np.isnan(stars) & ~np.isnan(values)).sum())
    mine = stars[:, :, None] - stars[:, None, :]
    its = values[:, :, None] - values[:, None, :]
    with np.errstate(invalid="ignore"):
        pairs = (mine > 0) & ~np.isnan(its)
        same = float((its[pairs] > MIN_DEVIATION).sum())
        ties = float((np.abs(its[pairs]) <= MIN_DEVIATION).sum())
    count = int(pairs.sum())
    if not count:
        return [
            "Not compared with your own taste: rate about 20 pictures (GDRO Rating Reward, or Rate in the "
            "list of runs), with different stars inside a group, and run again."
        ]
    agreed = (same + ties / 2) / count
    # Pairs share their pictures, so that they are worth no more than these.
    error = 0.5 / np.sqrt(min(count, images))
    text = (
        f"Your own ratings ({images} pictures): it orders {100 * agreed:.0f} % of {count} pairs as you do "
        "(50 % is chance)."
    )
    if count < _FEW_PAIRS:
        text += f" That is few: rate more, {_FEW_PAIRS} pairs at least."
    elif agreed < 0.5 + 2 * error:
        text += " That is not certainly better than chance: it does not know what you like."
    return [text]


def disagreements(values: np.ndarray, other: np.ndarray) -> list[Disagreement]:
    """Return the groups in which two rewards disagree most about two images, the strongest first.

    Args:
        values, other: ``[groups, G]``; both are compared in standard deviations of a group.
    """
    found = []
    for group, rows in enumerate(zip(values, other, strict=True)):
        known = ~np.isnan(rows[0]) & ~np.isnan(rows[1])
        if known.sum() < 2 or any(row[known].std() <= MIN_DEVIATION for row in rows):
            continue
        first, second = ((row - row[known].mean()) / row[known].std() for row in rows)
        apart = first - second
        a, b = int(np.nanargmax(apart)), int(np.nanargmin(apart))
        if first[a] > first[b] and second[b] > second[a]:
            found.append((float(apart[a] - apart[b]), Disagreement(group, a, b)))
    found.sort(key=lambda one: -one[0])
    return [one for _, one in found[:_EXAMPLES]]
