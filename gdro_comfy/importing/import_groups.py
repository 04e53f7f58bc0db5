"""Groups of pictures that were made elsewhere become a rollout: checked, cut alike, encoded, stored.

The run is named by what is in it: the model, the size, the prompts, and the contents and order of the
pictures. The same again finds it finished; a changed picture makes another run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..data.files import digest
from ..data.prompts import MAX_PROMPTS, Prompt
from ..data.rollout import Rollout
from ..data.runs import Group, Run, RunSettings
from ..errors import InputError
from ..imaging import contact_sheet, image_tensor
from ..rollouts.sample import default_batch, encode_prompts, image_size
from ..time_left import Pace
from .image_files import Picture, UnusablePicture, check_size, fit, kept_by_crop
from .sources import Findings, PictureGroup, some

if TYPE_CHECKING:
    from PIL import Image

    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward

_MOST_TOLD = 40
_SOURCE = "GDRO Import Groups"


@dataclass(frozen=True)
class ImportConfig:
    """How pictures become groups.

    Args:
        images_per_prompt: G, the size of every group; 0 is that of the smallest. Larger groups are cut
            to it, smaller ones left out.
        width, height: in pixels; 0 is the model's own size.
        steps, guidance: with which the model draws in training: previews, validation, rounds. A model
            with embedded guidance also trains with it.
        run_name: of the folder below ``gdro/``.
    """

    images_per_prompt: int = 0
    width: int = 0
    height: int = 0
    steps: int = 28
    guidance: float = 1.0
    run_name: str = "imported"


@dataclass(frozen=True)
class Imported:
    """What came of it: the groups, the reward of their order, and both in words."""

    rollout: Rollout
    reward: Reward
    summary: str


def import_groups(host: Host, model: FlowModel, found: Findings, config: ImportConfig) -> Imported:
    """Encode what is missing of the pictures, and return the handle.

    Raises:
        InputError: a setting does not fit, or something is wrong with the pictures or their prompts;
            everything that is wrong is in one message, and nothing was encoded.
    """
    size = image_size(model, config.width, config.height)
    problems, notes = list(found.problems), list(found.notes)
    problems += _wrong_with_groups(found.groups, model) + _wrong_with_pictures(found.pictures, size)
    groups = _alike(found.groups, config.images_per_prompt, notes) if not problems else []
    run = _run(host, model, groups, size, config)
    prompts = tuple(Prompt(group.prompt) for group in groups)
    rollout = Rollout(run, prompts, len(groups[0].pictures) if groups else 0)
    waiting = {
        stored: group.pictures[stored.count() :]
        for stored, group in zip(rollout.groups(), groups, strict=True)
    }
    waiting = {stored: pictures for stored, pictures in waiting.items() if pictures}
    unread = [p for pictures in waiting.values() for p in pictures]
    problems += _unreadable(host, unread if groups else found.pictures)
    if problems:
        raise _refusal(problems)
    notes += _about_sizes(groups, size)
    Run.open(host.output_dir, config.run_name, run.settings)
    host.emit("rollout", {"run": run.folder.name})
    if waiting:
        _encode(host, model, waiting, len(prompts) * rollout.images_per_prompt, size)
    reward, order = _order(rollout, groups)
    count = rollout.images_per_prompt
    told = f"{len(groups) * count} pictures in {len(groups)} groups of {count}; {order}"
    return Imported(rollout, reward, "\n".join([told, *notes]))


def _refusal(problems: Sequence[str]) -> InputError:
    shown = [f"- {problem}" for problem in dict.fromkeys(problems)]
    if len(shown) > _MOST_TOLD:
        shown[_MOST_TOLD:] = [f"- and {len(shown) - _MOST_TOLD} more"]
    return InputError(
        "source",
        "something is wrong with the pictures or their prompts",
        "Nothing was encoded. Put this right, and run again:\n" + "\n".join(shown),
    )


def _wrong_with_groups(groups: Sequence[PictureGroup], model: FlowModel) -> list[str]:
    wrong = []
    for group in groups:
        if len(group.pictures) < 2:
            wrong.append(
                f"{group.label}: 1 picture leaves nothing to compare; 2 or more are needed"
            )
        if group.prompt:
            try:
                model.check_prompts([Prompt(group.prompt)])
            except InputError as error:
                wrong.append(f"{group.label}: {error.found.removeprefix('prompt 1 ')}")
    if len(groups) > MAX_PROMPTS:
        wrong.append(f"there are more than {MAX_PROMPTS:,} prompts")
    return wrong


def _wrong_with_pictures(pictures: Sequence[Picture], size: tuple[int, int]) -> list[str]:
    """What can be said before they are decoded."""
    wrong = []
    seen: dict[str, str] = {}
    for picture in pictures:
        first = seen.setdefault(picture.key, picture.name) if picture.key else picture.name
        if first != picture.name:
            wrong.append(f"{picture.name}: it is the same as {first}")
        reason = check_size(picture.size, size) if picture.size[0] else None
        if reason:
            wrong.append(f"{picture.name}: {reason}")
    return wrong


def _alike(groups: Sequence[PictureGroup], wanted: int, notes: list[str]) -> list[PictureGroup]:
    """The groups cut to one size, evenly through their order, its first and last included."""
    if wanted == 1:
        raise InputError(
            "images_per_prompt", "1 leaves nothing to compare", "Use 2 or more, or 0 for all alike."
        )
    counts = [len(group.pictures) for group in groups]
    count = wanted or min(counts)
    if max(counts) < count:
        raise InputError(
            "images_per_prompt",
            f"no group has {count} pictures, the largest has {max(counts)}",
            f"Use 2 to {max(counts)}, or 0 for as many as the smallest group has.",
        )
    few = [group.label for group in groups if len(group.pictures) < count]
    if few:
        notes.append(f"left out, with fewer than {count} pictures: {some(few)}")
    many = [f"{group.label} ({n})" for group, n in zip(groups, counts, strict=True) if n > count]
    if many:
        notes.append(f"cut to {count} pictures: {some(many)}")
    return [_cut(group, count) for group in groups if len(group.pictures) >= count]


def _cut(group: PictureGroup, count: int) -> PictureGroup:
    last = len(group.pictures) - 1
    places = [round(place * last / (count - 1)) for place in range(count)]
    order = None if group.ranks is None else tuple(group.ranks[place] for place in places)
    return replace(group, pictures=tuple(group.pictures[p] for p in places), ranks=order)


def _run(
    host: Host,
    model: FlowModel,
    groups: Sequence[PictureGroup],
    size: tuple[int, int],
    config: ImportConfig,
) -> Run:
    """The run of these pictures, which need not be there yet."""
    contents = [[group.prompt, [picture.key for picture in group.pictures]] for group in groups]
    settings = RunSettings(
        model.identity, config.steps, config.guidance, size, 0, digest(contents, 16)
    )
    folder = Run.place(host.output_dir, config.run_name, settings)
    return Run(folder, settings, config.run_name)


def _unreadable(host: Host, pictures: Sequence[Picture]) -> list[str]:
    """Decode each once, and tell which cannot be."""
    wrong = []
    for number, picture in enumerate(pictures, 1):
        host.check_cancelled()
        try:
            picture.load()
        except UnusablePicture as error:
            wrong.append(f"{picture.name}: {error}")
        if number % 16 == 0 or number == len(pictures):
            host.progress(number, len(pictures), "checking pictures")
    return wrong


def _about_sizes(groups: Sequence[PictureGroup], size: tuple[int, int]) -> list[str]:
    pictures = [picture for group in groups for picture in group.pictures]
    others = Counter(picture.size for picture in pictures if picture.size != size)
    if not others:
        return []
    shown = some([f"{w} x {h} ({n})" for (w, h), n in others.most_common()])
    notes = [f"scaled to cover {size[0]} x {size[1]} and cut in the middle: {shown}"]
    lost = [picture.name for picture in pictures if kept_by_crop(picture.size, size) < 0.5]
    if lost:
        notes.append(f"more than half is cut off: {some(lost)}")
    return notes


def _encode(
    host: Host,
    model: FlowModel,
    waiting: dict[Group, tuple[Picture, ...]],
    total: int,
    size: tuple[int, int],
) -> None:
    """Encode and store some pictures of each group; those that are stored count."""
    import torch

    batch = default_batch(size)
    done, pace = total - sum(map(len, waiting.values())), Pace(total)
    host.free_memory()
    with torch.inference_mode(False), model.active():
        encode_prompts(host, model, list(waiting))
        for stored, pictures in waiting.items():
            for start in range(0, len(pictures), batch):
                host.check_cancelled()
                part = [_load(picture, size) for picture in pictures[start : start + batch]]
                latents = model.encode_images(image_tensor(part))
                stored.add(latents, part, stored.conditioning())
                done += len(part)
                preview = contact_sheet(part[:16], 4)
                host.progress(done, total, f"encoding pictures{pace.left(done)}", preview)


def _load(picture: Picture, size: tuple[int, int]) -> Image.Image:
    try:
        return fit(picture.load(), size)
    except UnusablePicture as error:
        raise _refusal([f"{picture.name}: {error}"]) from error


def _order(rollout: Rollout, groups: Sequence[PictureGroup]) -> tuple[Reward, str]:
    """The reward of the order that the names give: 1 for the best of a group, 0 for the last."""
    import numpy as np

    from ..rewards.precomputed import GivenReward, NoNumbers

    without = [group.label for group in groups if group.ranks is None]
    if without:
        which = "the names of the files" if len(without) == len(groups) else some(without)
        reason = f"{which} give no order, so there is no reward of it"
        remedy = (
            "Name the pictures of every prompt 1, 2, 3, ... with the best first, or end the names "
            "in _w (better) and _l (worse); or score the groups with another reward."
        )
        return NoNumbers("order", reason, remedy), reason
    values = []
    for group in groups:
        levels = sorted(set(group.ranks or ()))
        values.append([1 - levels.index(rank) / (len(levels) - 1) for rank in group.ranks or ()])
    reward = GivenReward("order", rollout, np.array(values, dtype=np.float32), _SOURCE)
    return (
        reward,
        "the reward is the order of their names, 1 for the best of a group and 0 for the last",
    )
