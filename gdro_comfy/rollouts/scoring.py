"""Score a rollout: only images without a score, written as they are scored."""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.damage import setting_aside
from ..data.disk import make_folder
from ..data.files import append_lines, digest, read_lines, write_lines
from ..data.rollout import Rollout
from ..data.run_lock import writing
from ..data.scores import read_scores
from ..distributed import World, alone, shares, world
from ..errors import InputError
from ..rewards import room
from ..rewards.base import (
    Reward,
    RewardError,
    RewardResult,
    RolloutReward,
    announce,
    finite_values,
    judged_prompts,
)
from ..rewards.room import MakeRoom
from ..time_left import TimeLeft

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ..data.groups import Group
    from ..data.prompts import Prompt
    from ..distributed import Mailbox
    from ..progress import Progress

log = logging.getLogger(__name__)

_BATCH = 32


def score_rollout(
    host: Progress, rollout: Rollout, reward: Reward, make_room: MakeRoom | None = None
) -> Rollout:
    """Score the images that this reward, with these settings, has not scored yet.

    Cancelling keeps the scores made so far.

    Args:
        make_room: called if the reward's networks do not fit on the device beside what is there.

    Returns:
        The rollout with these scores.

    Raises:
        InputError: the reward cannot judge one of the prompts.
        RewardError: the reward returned no finite number for an image; names the image.
    """
    with writing(rollout.run.folder):
        if isinstance(reward, RolloutReward):
            return _judge(host, rollout, reward, make_room)
        with room.active_with_room(reward, make_room):
            return _score_missing(host, rollout, reward, make_room)


def _judge(
    host: Progress, rollout: Rollout, reward: RolloutReward, make_room: MakeRoom | None
) -> Rollout:
    """Score with a reward that needs the whole rollout.

    Its scores are written at once, to a file for exactly these groups: with other groups they may
    differ.
    """
    result = reward.score_groups(
        rollout, lambda part: score_rollout(host, rollout, part, make_room).scores()
    )
    images = [
        (group, index) for group in rollout.groups() for index in range(rollout.images_per_prompt)
    ]
    if result.left_out is not None and result.left_out.all():
        raise InputError(
            "reward",
            f"{reward.name} leaves out every picture of these groups",
            "Rate some of them, or score the rollout that was rated.",
        )
    rows = _rows(reward, images, result)
    contents = digest([[digest(p.to_json()) for p in rollout.prompts], rollout.images_per_prompt])
    path = rollout.run.score_file(reward.name, {**reward.settings, "pictures": contents})
    make_folder(path.parent)
    write_lines(path, rows)
    host.progress(len(rows), len(rows), f"scoring, {reward.name}")
    return rollout.scored(path.name)


def _score_missing(
    host: Progress, rollout: Rollout, reward: Reward, make_room: MakeRoom | None
) -> Rollout:
    path = rollout.run.score_file(reward.name, reward.settings)
    make_folder(path.parent)
    several, groups = world(), rollout.groups()
    # The main process alone writes the file; the others send it their rows as they score.
    missing = several.agree(lambda: _missing(rollout, reward, path))
    mine = _share(missing, several)
    rows_of_others = several.mailbox()
    total = len(groups) * rollout.images_per_prompt - (len(missing) - len(mine))
    stage, time_left = f"scoring, {reward.name}", TimeLeft(total)
    if missing and several.is_main:
        host.progress(total - len(mine), total, stage)
        announce(reward, len(missing), rollout.run.settings.size)
    for start in range(0, len(mine), _BATCH):
        with _kept(path, rows_of_others, several):
            host.check_cancelled()
        batch = [(groups[number], index) for number, index in mine[start : start + _BATCH]]
        with setting_aside():
            images = [group.image(index) for group, index in batch]
        prompts = [group.prompt for group, _ in batch]
        result = room.score(reward, images, prompts, host.check_cancelled, make_room)
        if result.left_out is not None:
            raise RewardError(f"{reward.name} left out an image, which it may not")
        rows = _rows(reward, batch, result)
        if several.is_main:
            append_lines(path, rows)
        else:
            rows_of_others.send(rows)
        done = total - len(mine) + start + len(batch)
        host.progress(done, total, stage + time_left.suffix(done))
    if several.is_main:
        for rows in rows_of_others.rest():
            append_lines(path, rows)
    else:
        rows_of_others.close()
    several.barrier()
    return rollout.scored(path.name)


@contextlib.contextmanager
def _kept(path: Path, rows_of_others: Mailbox, several: World) -> Iterator[None]:
    """Write what other processes have scored, also if this one is to stop."""
    try:
        yield
    finally:
        if several.is_main:
            for rows in rows_of_others.arrived():
                append_lines(path, rows)


def _share(missing: Sequence[tuple[int, int]], several: World) -> Sequence[tuple[int, int]]:
    """Return the images that this process scores, all those of a prompt together."""
    numbers = sorted({number for number, _ in missing})
    of_each = Counter(number for number, _ in missing)
    start, end = shares([of_each[n] for n in numbers], several.size)[several.rank]
    mine = set(numbers[start:end])
    return [image for image in missing if image[0] in mine]


def _missing(rollout: Rollout, reward: Reward, path: Path) -> list[tuple[int, int]]:
    """Return the images that are to be scored, as the number of the group and the index in it.

    Damaged lines are taken out of the file, and images that are left out are noted in it.
    """
    judged = judged_prompts(reward, rollout.prompts)
    # A reward may read more of a prompt than its text (objects to count, the word to draw): another
    # prompt with the same text must not inherit these scores.
    damaged: list[int] = []
    scored = {key: row.get("asked") for key, row in read_scores(path, damaged).items()}
    if damaged:
        log.warning(
            "%s: %d lines are damaged, the first is line %d; what they scored is scored again",
            path, len(damaged), damaged[0],
        )  # fmt: skip
        write_lines(path, read_lines(path))
    missing = [
        (group, index)
        for group in rollout.groups()
        for prompt_key in [digest(group.prompt.to_json(), 8)]
        for index in range(rollout.images_per_prompt)
        if scored.get((group.folder.name, index)) != prompt_key
    ]
    unjudged = {p for p, is_judged in zip(rollout.prompts, judged, strict=True) if not is_judged}
    if unjudged:
        left_out = [(group, index) for group, index in missing if group.prompt in unjudged]
        missing = [(group, index) for group, index in missing if group.prompt not in unjudged]
        nothing = np.full(len(left_out), np.nan, np.float32)
        result = RewardResult(nothing, left_out=np.ones(len(left_out), bool))
        append_lines(path, _rows(reward, left_out, result))
    numbers = {group: number for number, group in enumerate(rollout.groups())}
    return [(numbers[group], index) for group, index in missing]


def score_together(host: Progress, rollout: Rollout, reward: Reward) -> Rollout:
    """Score as ``score_rollout`` does, with all processes that work together; each returns the same.

    A reward that compares images of the whole rollout works in the main process, while the others wait.
    """
    several = world()
    if several.size == 1 or not isinstance(reward, RolloutReward):
        return score_rollout(host, rollout, reward)

    def by_main() -> str | None:
        with alone():
            return score_rollout(host, rollout, reward).score_file

    return rollout.scored(several.agree(by_main))


def _rows(
    reward: Reward, images: list[tuple[Group, int]], result: RewardResult
) -> list[dict[str, Any]]:
    """Return the lines of a score file; an image that is left out has null for a value.

    Raises:
        RewardError: an image that is not left out has no finite number.
    """
    names = [
        f"{group.image_path(index).name} of the prompt {group.prompt.text!r}"
        for group, index in images
    ]
    values = finite_values(reward.name, result, names)
    details = result.details or [{}] * len(images)
    left_out = np.zeros(len(values), bool) if result.left_out is None else result.left_out
    rows = []
    for (group, index), value, detail, omitted in zip(
        images, values, details, left_out, strict=True
    ):
        rows.append(
            {
                "prompt": group.folder.name,
                "image": index,
                "value": None if omitted else float(value),
                "asked": digest(group.prompt.to_json(), 8),
                "details": detail,
            }
        )
    return rows


def score_images(
    host: Progress,
    reward: Reward,
    images: Sequence[Image.Image],
    prompts: Sequence[Prompt],
    make_room: MakeRoom | None = None,
) -> np.ndarray:
    """Score images that belong to no rollout; nothing is stored.

    Args:
        make_room: as for ``score_rollout``.

    Returns:
        Float32 ``[n]``.

    Raises:
        RewardError: an image has no finite number; names its prompt.
    """
    parts = []
    with room.active_with_room(reward, make_room):
        for start in range(0, len(images), 2 * _BATCH):
            host.check_cancelled()
            batch = slice(start, start + 2 * _BATCH)
            result = room.score(
                reward, images[batch], prompts[batch], host.check_cancelled, make_room
            )
            names = [f"an image of {prompt.text!r}" for prompt in prompts[batch]]
            # Nothing is left out here: all of it goes into a mean.
            parts.append(finite_values(reward.name, RewardResult(result.values), names))
    return np.concatenate(parts)
