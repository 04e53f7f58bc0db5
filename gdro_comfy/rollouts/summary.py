"""What the scores of a rollout look like, in words and pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..data.rollout import Rollout
from ..errors import InputError
from ..imaging import contact_sheet

_EQUAL = 1e-6


@dataclass(frozen=True)
class ScoreSummary:
    """What the scores of a rollout look like: the counts are of groups and images that have scores,
    ``left_out`` are images that have none."""

    mean: float
    best_of_group: float
    spread: float
    teaching_groups: int
    groups: int
    images: int
    left_out: int = 0

    def text(self) -> str:
        still = self.groups - self.teaching_groups
        if not still:
            taught = "every group teaches something"
        elif still == 1:
            taught = "1 group teaches nothing (all rewards equal)"
        else:
            taught = f"{still} groups teach nothing (all rewards equal)"
        images = "1 image" if self.images == 1 else f"{self.images} images"
        groups = "1 group" if self.groups == 1 else f"{self.groups} groups"
        without = f" ({self.left_out} without a score are left out)" if self.left_out else ""
        return (
            f"{images} in {groups}{without}: mean {self.mean:.3f}, best of a group "
            f"{self.best_of_group:.3f}, deviation inside a group {self.spread:.3f}; {taught}"
        )


def summarise(rewards: np.ndarray) -> ScoreSummary:
    """Summary of rewards ``[groups, G]``, at least one of which is a number; NaN is left out."""
    left_out = int(np.isnan(rewards).sum())
    rewards = rewards[~np.isnan(rewards).all(1)]
    spans = np.nanmax(rewards, 1) - np.nanmin(rewards, 1)
    return ScoreSummary(
        mean=float(np.nanmean(rewards)),
        best_of_group=float(np.nanmax(rewards, 1).mean()),
        spread=float(np.nanstd(rewards, 1).mean()),
        teaching_groups=int((spans > _EQUAL).sum()),
        groups=len(rewards),
        images=int((~np.isnan(rewards)).sum()),
        left_out=left_out,
    )


def histogram(rewards: np.ndarray, value_range: tuple[float, float]) -> Image.Image:
    """How often each reward occurs, as a 480 x 240 picture with the mean marked."""
    low, high = value_range
    rewards = rewards[~np.isnan(rewards)]
    low, high = min(low, float(rewards.min())), max(high, float(rewards.max()))
    counts, _ = np.histogram(rewards, bins=24, range=(low, high if high > low else low + 1))
    width, height, margin = 480, 240, 28
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(12)
    step = (width - 2 * margin) / len(counts)
    tallest = max(1, counts.max())
    for i, count in enumerate(counts):
        x = margin + i * step
        top = height - margin - (height - 2 * margin) * count / tallest
        draw.rectangle((x, top, x + step - 2, height - margin), fill=(64, 110, 190))
    mean = float(rewards.mean())
    x = margin + (mean - low) / (high - low or 1) * (width - 2 * margin)
    draw.line((x, margin - 6, x, height - margin), fill=(200, 60, 40), width=2)
    draw.text((x, 6), f"mean {mean:.3f}", fill=(200, 60, 40), font=font, anchor="ma")
    draw.text((margin, height - 20), f"{low:g}", fill="black", font=font)
    draw.text((width - margin, height - 20), f"{high:g}", fill="black", font=font, anchor="ra")
    return image


def strongest_groups(rollout: Rollout, rewards: np.ndarray, rows: int = 6) -> str:
    """The groups of ``best_and_worst`` in words: prompt, best and worst reward and their pictures."""
    lines = []
    for place in _by_spread(rewards)[:rows]:
        row = rewards[place]
        if np.nanmax(row) - np.nanmin(row) <= _EQUAL:
            break
        best, worst = int(np.nanargmax(row)), int(np.nanargmin(row))
        lines.append(
            f"{rollout.prompts[place].text!r}: best {row[best]:.3f} (picture {best + 1}), worst "
            f"{row[worst]:.3f} (picture {worst + 1})"
        )
    return "\n".join(lines)


def _by_spread(rewards: np.ndarray) -> list[int]:
    """Groups by how far their best and worst reward are apart, the widest first; without those that
    have none."""
    known = np.flatnonzero(~np.isnan(rewards).all(1))
    spans = np.nanmax(rewards[known], 1) - np.nanmin(rewards[known], 1)
    return [int(place) for place in known[np.argsort(-spans, kind="stable")]]


def best_and_worst(rollout: Rollout, rewards: np.ndarray, rows: int = 6) -> Image.Image:
    """Best (left) and worst (right) picture of the groups with the largest spread of rewards."""
    order = _by_spread(rewards)[:rows]
    groups = rollout.groups()
    pictures = []
    for place in order:
        for which in (np.nanargmax(rewards[place]), np.nanargmin(rewards[place])):
            pictures.append(groups[place].image(int(which)))
    if not pictures:
        raise InputError("rollout", "it has no groups", "Give at least one prompt.")
    return contact_sheet(pictures, 4)
