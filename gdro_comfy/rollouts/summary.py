"""What the scores of a rollout look like, in words and images."""

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
    """Scores of a rollout in numbers.

    Args:
        mean: over all images.
        best_of_group: mean of each group's highest score.
        spread: mean of the standard deviation inside each group.
        teaching_groups: groups whose images do not all have the same score.
        groups, images: those with scores.
        left_out: images without a score.
    """

    mean: float
    best_of_group: float
    spread: float
    teaching_groups: int
    groups: int
    images: int
    left_out: int = 0

    def text(self) -> str:
        """Return one sentence for the creator."""
        flat = self.groups - self.teaching_groups
        if not flat:
            lesson = "every group teaches something"
        elif flat == 1:
            lesson = "1 group teaches nothing (all rewards equal)"
        else:
            lesson = f"{flat} groups teach nothing (all rewards equal)"
        images = "1 image" if self.images == 1 else f"{self.images} images"
        groups = "1 group" if self.groups == 1 else f"{self.groups} groups"
        omitted = f" ({self.left_out} without a score are left out)" if self.left_out else ""
        return (
            f"{images} in {groups}{omitted}: mean {self.mean:.3f}, best of a group "
            f"{self.best_of_group:.3f}, deviation inside a group {self.spread:.3f}; {lesson}"
        )


def summarise(scores: np.ndarray) -> ScoreSummary:
    """Summarise scores ``[groups, G]``, NaN where an image is left out; at least one is a number."""
    left_out = int(np.isnan(scores).sum())
    scores = scores[~np.isnan(scores).all(1)]
    spreads = np.nanmax(scores, 1) - np.nanmin(scores, 1)
    return ScoreSummary(
        mean=float(np.nanmean(scores)),
        best_of_group=float(np.nanmax(scores, 1).mean()),
        spread=float(np.nanstd(scores, 1).mean()),
        teaching_groups=int((spreads > _EQUAL).sum()),
        groups=len(scores),
        images=int((~np.isnan(scores)).sum()),
        left_out=left_out,
    )


def histogram(scores: np.ndarray, value_range: tuple[float, float]) -> Image.Image:
    """Draw how often each score occurs, 480 x 240 pixels, with the mean marked.

    Args:
        scores: of any shape; NaN is left out.
        value_range: the reward's; the axis covers it, and the scores.
    """
    low, high = value_range
    scores = scores[~np.isnan(scores)]
    low, high = min(low, float(scores.min())), max(high, float(scores.max()))
    counts, _ = np.histogram(scores, bins=24, range=(low, high if high > low else low + 1))
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
    mean = float(scores.mean())
    x = margin + (mean - low) / (high - low or 1) * (width - 2 * margin)
    draw.line((x, margin - 6, x, height - margin), fill=(200, 60, 40), width=2)
    draw.text((x, 6), f"mean {mean:.3f}", fill=(200, 60, 40), font=font, anchor="ma")
    draw.text((margin, height - 20), f"{low:g}", fill="black", font=font)
    draw.text((width - margin, height - 20), f"{high:g}", fill="black", font=font, anchor="ra")
    return image


def strongest_groups(rollout: Rollout, scores: np.ndarray, rows: int = 6) -> str:
    """Describe the groups of ``best_and_worst``: prompt, best and worst score, and which images."""
    lines = []
    for group in _by_spread(scores)[:rows]:
        values = scores[group]
        if np.nanmax(values) - np.nanmin(values) <= _EQUAL:
            break
        best, worst = int(np.nanargmax(values)), int(np.nanargmin(values))
        lines.append(
            f"{rollout.prompts[group].text!r}: best {values[best]:.3f} (picture {best + 1}), worst "
            f"{values[worst]:.3f} (picture {worst + 1})"
        )
    return "\n".join(lines)


def _by_spread(scores: np.ndarray) -> list[int]:
    """Return the indices of groups with scores, the widest spread first."""
    scored = np.flatnonzero(~np.isnan(scores).all(1))
    spreads = np.nanmax(scores[scored], 1) - np.nanmin(scores[scored], 1)
    return [int(group) for group in scored[np.argsort(-spreads, kind="stable")]]


def best_and_worst(rollout: Rollout, scores: np.ndarray, rows: int = 6) -> Image.Image:
    """Show the best (left) and worst (right) image of the groups with the widest spread."""
    groups = rollout.groups()
    images = [
        groups[group].image(int(index))
        for group in _by_spread(scores)[:rows]
        for index in (np.nanargmax(scores[group]), np.nanargmin(scores[group]))
    ]
    if not images:
        raise InputError("rollout", "it has no groups", "Give at least one prompt.")
    return contact_sheet(images, 4)
