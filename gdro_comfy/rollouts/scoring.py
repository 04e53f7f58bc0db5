"""Scoring a rollout: only what has no score yet, written as it is made."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..data.files import append_lines, digest, read_lines, write_atomic
from ..data.rollout import Rollout
from ..errors import InputError
from ..rewards.base import Reward, RewardError, RewardResult, RolloutReward, active, announce
from ..time_left import Pace

if TYPE_CHECKING:
    from ..data.prompts import Prompt
    from ..data.runs import Group
    from ..host import Host

_BATCH = 32
_EQUAL = 1e-6


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
