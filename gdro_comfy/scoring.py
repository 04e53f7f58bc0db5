"""Scoring a rollout: only what has no score yet, written as it is made."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .errors import InputError
from .pace import Pace
from .rewards.base import Reward, RewardError, RewardResult, RolloutReward, active, announce
from .rollout import Rollout, contact_sheet
from .store import append_lines, digest, read_lines, write_atomic

if TYPE_CHECKING:
    from .host import Host
    from .prompts import Prompt
    from .store import Group

_BATCH = 32
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


def score_rollout(host: Host, rollout: Rollout, reward: Reward) -> Rollout:
    """Score the images that have no score by this reward with these settings, and return the scored
    handle. Cancelling keeps what is scored.

    Raises:
        InputError: the reward cannot judge one of the prompts.
        RewardError: it returned no finite number for an image; names the image.
    """
    if isinstance(reward, RolloutReward):
        return _judge(host, rollout, reward)
    with active(reward):
        return _score_missing(host, rollout, reward)


def _judge(host: Host, rollout: Rollout, reward: RolloutReward) -> Rollout:
    """Scores of a reward that sees the rollout as a whole: written together, in a file of their own
    for just these groups, as those of other groups may differ."""
    result = reward.judge(rollout, lambda part: score_rollout(host, rollout, part).scores())
    pictures = [
        (group, place) for group in rollout.groups() for place in range(rollout.images_per_prompt)
    ]
    if result.left_out is not None and result.left_out.all():
        raise InputError(
            "reward",
            f"{reward.name} leaves out every picture of these groups",
            "Rate some of them, or score the rollout that was rated.",
        )
    rows = _rows(reward, pictures, result)
    which = digest([[digest(p.to_json()) for p in rollout.prompts], rollout.images_per_prompt])
    path = rollout.run.score_file(reward.name, {**reward.settings, "pictures": which})
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(path, lambda file: file.write(text.encode()))
    host.progress(len(rows), len(rows), f"scoring, {reward.name}")
    return rollout.scored(path.name)


def _score_missing(host: Host, rollout: Rollout, reward: Reward) -> Rollout:
    reward.check_prompts(rollout.prompts)
    path = rollout.run.score_file(reward.name, reward.settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    # A reward may look at more of the prompt than its text (the parts asked for, the word): another
    # prompt of the same text must not get the old scores.
    known = {(row["prompt"], row["image"]): row.get("asked") for row in read_lines(path)}
    todo = []
    for group in rollout.groups():
        asked = digest(group.prompt.to_json(), 8)
        for place in range(rollout.images_per_prompt):
            if known.get((group.folder.name, place)) != asked:
                todo.append((group, place))
    total = len(rollout.prompts) * rollout.images_per_prompt
    stage, pace = f"scoring, {reward.name}", Pace(total)
    if todo:
        host.progress(total - len(todo), total, stage)
        announce(reward, len(todo), rollout.run.settings.size)
    for start in range(0, len(todo), _BATCH):
        host.check_cancelled()
        batch = todo[start : start + _BATCH]
        images = [group.image(place) for group, place in batch]
        prompts = [group.prompt for group, _ in batch]
        result = reward.score(images, prompts, host.check_cancelled)
        append_lines(path, _rows(reward, batch, result))
        done = total - len(todo) + start + len(batch)
        host.progress(done, total, stage + pace.left(done))
    return rollout.scored(path.name)


def _rows(
    reward: Reward, pictures: list[tuple[Group, int]], result: RewardResult
) -> list[dict[str, Any]]:
    """Lines of a score file; a picture that is left out gets null. Raises ``RewardError`` unless there is
    a finite number for each of the others."""
    values = np.asarray(result.values, dtype=np.float32)
    if values.shape != (len(pictures),):
        raise RewardError(
            f"{reward.name} returned {values.shape} values for {len(pictures)} images"
        )
    details = result.details or [{}] * len(pictures)
    left_out = np.zeros(len(values), bool) if result.left_out is None else result.left_out
    rows = []
    for (group, place), value, detail, without in zip(
        pictures, values, details, left_out, strict=True
    ):
        if not without and not math.isfinite(value):
            raise RewardError(
                f"{reward.name} gave {value} for {group.image_path(place).name} of the prompt "
                f"{group.prompt.text!r}"
            )
        rows.append(
            {
                "prompt": group.folder.name,
                "image": place,
                "value": None if without else float(value),
                "asked": digest(group.prompt.to_json(), 8),
                "details": detail,
            }
        )
    return rows


def score_images(
    host: Host, reward: Reward, images: Sequence[Image.Image], prompts: Sequence[Prompt]
) -> np.ndarray:
    """Rewards ``[n]`` of pictures outside of any rollout; nothing is stored."""
    values = []
    with active(reward):
        for start in range(0, len(images), 2 * _BATCH):
            host.check_cancelled()
            at = slice(start, start + 2 * _BATCH)
            values.append(reward.score(images[at], prompts[at], host.check_cancelled).values)
    return np.concatenate(values)


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
