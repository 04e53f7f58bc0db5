"""Import groups of images made elsewhere: check them, make them alike, encode and store them.

The name of the run depends on the model, the size, the prompts, and the contents and order of the images:
importing the same again finds the run finished, and a changed image makes another run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.files import digest
from ..data.groups import Group
from ..data.prompts import MAX_PROMPTS, Prompt
from ..data.rollout import Rollout
from ..data.run_lock import writing
from ..data.runs import Run, RunSettings
from ..errors import InputError
from ..imaging import contact_sheet, image_tensor
from ..rollouts import mending
from ..rollouts.sample import encode_prompts, guidance_of, image_size
from ..time_left import TimeLeft
from .image_files import SourceImage, UnusableImage, crop_fraction, fit, size_problem
from .sources import ImageGroup, ImageSource, shorten

if TYPE_CHECKING:
    from PIL import Image

    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward

_MAX_PROBLEMS = 40
_NODE = "GDRO Import Groups"


@dataclass(frozen=True)
class ImportConfig:
    """How images become groups.

    Args:
        images_per_prompt: G, the size of every group; 0 is the size of the smallest. Larger groups are
            cut to it, smaller ones left out.
        width, height: in pixels; 0 is the model's default size.
        steps, guidance: used wherever training samples: previews, validation, rounds. A model with
            embedded guidance also trains with it.
        run_name: start of the folder's name below ``gdro/``.
    """

    images_per_prompt: int = 0
    width: int = 0
    height: int = 0
    steps: int = 28
    guidance: float = 1.0
    run_name: str = "imported"


@dataclass(frozen=True)
class ImportResult:
    """The imported groups, the reward that their file names give, and both in words."""

    rollout: Rollout
    reward: Reward
    summary: str


def import_groups(
    host: Host, model: FlowModel, source: ImageSource, config: ImportConfig
) -> ImportResult:
    """Encode the images that are not stored yet, and return the rollout.

    Raises:
        InputError: a setting does not fit, or there are problems with the images or their prompts. All
            problems are in one message, and nothing has been encoded.
    """
    size = image_size(model, config.width, config.height)
    problems, notes = list(source.problems), list(source.notes)
    problems += _group_problems(source.groups, model) + _image_problems(source.images, size)
    groups = _equalize(source.groups, config.images_per_prompt, notes) if not problems else []
    run = _run(host, model, groups, size, config)
    model = model.as_recorded(run.settings.model)
    prompts = tuple(Prompt(group.prompt) for group in groups)
    rollout = Rollout(run, prompts, len(groups[0].images) if groups else 0)
    stored_groups = list(zip(rollout.groups(), groups, strict=True))
    unchecked = [
        image
        for stored, group in stored_groups
        for state in [stored.state()]
        for image in (*group.images[state.count :], *(group.images[i] for i in state.lost))
    ]
    problems += _decoding_problems(host, unchecked if groups else source.images)
    if problems:
        raise _refusal(problems)
    notes += _resizing_notes(groups, size)
    Run.open(host.output_dir, config.run_name, run.settings)
    count = rollout.images_per_prompt
    with writing(run.folder):
        host.emit("rollout", {"run": run.folder.name})
        found = mending.clear(stored for stored, _ in stored_groups)
        for stored, group in stored_groups:
            lost = found[stored].lost
            if lost:
                images = {index: _load(group.images[index], size) for index in lost}
                mending.replace_images(stored, images)
        missing = {stored: group.images[found[stored].count :] for stored, group in stored_groups}
        waiting = [s for s, images in missing.items() if images or not found[s].encoded]
        if waiting:
            missing = {stored: missing[stored] for stored in waiting}
            _encode(host, model, missing, count, len(groups) * count, size)
    reward, order = _order_reward(rollout, groups)
    counts = f"{len(groups) * count} pictures in {len(groups)} groups of {count}"
    return ImportResult(rollout, reward, "\n".join([f"{counts}; {order}", *notes]))


def _refusal(problems: Sequence[str]) -> InputError:
    lines = [f"- {problem}" for problem in dict.fromkeys(problems)]
    if len(lines) > _MAX_PROBLEMS:
        lines[_MAX_PROBLEMS:] = [f"- and {len(lines) - _MAX_PROBLEMS} more"]
    return InputError(
        "source",
        "something is wrong with the pictures or their prompts",
        "Nothing was encoded. Correct the following and run again:\n" + "\n".join(lines),
    )


def _group_problems(groups: Sequence[ImageGroup], model: FlowModel) -> list[str]:
    problems = []
    for group in groups:
        if len(group.images) < 2:
            problems.append(
                f"{group.label}: 1 picture leaves nothing to compare; 2 or more are needed"
            )
        if group.prompt:
            try:
                model.check_prompts([Prompt(group.prompt)])
            except InputError as error:
                problems.append(f"{group.label}: {error.found.removeprefix('prompt 1 ')}")
    if len(groups) > MAX_PROMPTS:
        problems.append(f"there are more than {MAX_PROMPTS:,} prompts")
    return problems


def _image_problems(images: Sequence[SourceImage], size: tuple[int, int]) -> list[str]:
    """Return the problems that show before the images are decoded: duplicates and small sizes."""
    problems = []
    first_names: dict[str, str] = {}
    for image in images:
        first = first_names.setdefault(image.key, image.name) if image.key else image.name
        if first != image.name:
            problems.append(f"{image.name}: it is the same as {first}")
        reason = size_problem(image.size, size) if image.size[0] else None
        if reason:
            problems.append(f"{image.name}: {reason}")
    return problems


def _equalize(groups: Sequence[ImageGroup], count: int, notes: list[str]) -> list[ImageGroup]:
    """Return groups of ``count`` images each, or of the smallest group's size if that is 0.

    Larger groups are thinned evenly, keeping their first and last image; smaller ones are left out.
    """
    if count == 1:
        raise InputError(
            "images_per_prompt",
            "1 leaves nothing to compare",
            "Use 2 or more, or 0 for the size of the smallest group.",
        )
    counts = [len(group.images) for group in groups]
    count = count or min(counts)
    if max(counts) < count:
        raise InputError(
            "images_per_prompt",
            f"no group has {count} pictures, the largest has {max(counts)}",
            f"Use 2 to {max(counts)}, or 0 for the size of the smallest group.",
        )
    smaller = [group.label for group in groups if len(group.images) < count]
    if smaller:
        notes.append(f"left out, with fewer than {count} pictures: {shorten(smaller)}")
    larger = [f"{group.label} ({n})" for group, n in zip(groups, counts, strict=True) if n > count]
    if larger:
        notes.append(f"cut to {count} pictures: {shorten(larger)}")
    return [_thin(group, count) for group in groups if len(group.images) >= count]


def _thin(group: ImageGroup, count: int) -> ImageGroup:
    last = len(group.images) - 1
    indices = [round(index * last / (count - 1)) for index in range(count)]
    ranks = None if group.ranks is None else tuple(group.ranks[index] for index in indices)
    return replace(group, images=tuple(group.images[index] for index in indices), ranks=ranks)


def _run(
    host: Host,
    model: FlowModel,
    groups: Sequence[ImageGroup],
    size: tuple[int, int],
    config: ImportConfig,
) -> Run:
    """Return the run of these images, whether it exists or not."""
    contents = [[group.prompt, [image.key for image in group.images]] for group in groups]
    settings = RunSettings(
        model.identity,
        config.steps,
        guidance_of(model, config.guidance),
        size,
        0,
        digest(contents, 16),
    )

    def path(settings: RunSettings) -> Path:
        return Run.path(host.output_dir, config.run_name, settings)

    settings = settings.as_recorded(path)
    return Run(path(settings), settings, config.run_name)


def _decoding_problems(host: Host, images: Sequence[SourceImage]) -> list[str]:
    """Decode each image once, and return what is wrong with those that cannot be decoded."""
    problems = []
    for number, image in enumerate(images, 1):
        host.check_cancelled()
        try:
            image.load()
        except UnusableImage as error:
            problems.append(f"{image.name}: {error}")
        if number % 16 == 0 or number == len(images):
            host.progress(number, len(images), "checking pictures")
    return problems


def _resizing_notes(groups: Sequence[ImageGroup], size: tuple[int, int]) -> list[str]:
    images = [image for group in groups for image in group.images]
    other_sizes = Counter(image.size for image in images if image.size != size)
    if not other_sizes:
        return []
    sizes = shorten([f"{w} x {h} ({n})" for (w, h), n in other_sizes.most_common()])
    notes = [f"scaled to cover {size[0]} x {size[1]} and cropped to the centre: {sizes}"]
    cropped = [image.name for image in images if crop_fraction(image.size, size) < 0.5]
    if cropped:
        notes.append(f"more than half is cropped away: {shorten(cropped)}")
    return notes


def _encode(
    host: Host,
    model: FlowModel,
    missing: Mapping[Group, Sequence[SourceImage]],
    count: int,
    total: int,
    size: tuple[int, int],
) -> None:
    """Encode and store the missing images of each group of ``count``; ``total`` includes stored ones."""
    import torch

    batch = model.batch_size(size)
    done, time_left = total - sum(map(len, missing.values())), TimeLeft(total)
    host.free_memory()
    with torch.inference_mode(False), model.active():
        encode_prompts(host, model, list(missing))
        for stored, source_images in missing.items():
            finished = count - len(source_images)
            for start in range(0, len(source_images), batch):
                host.check_cancelled()
                images = [_load(image, size) for image in source_images[start : start + batch]]
                latents = model.encode_images(image_tensor(images))
                stored.add(finished + start, latents, images, stored.conditioning())
                done += len(images)
                preview = contact_sheet(images[:16], 4)
                host.progress(done, total, f"encoding pictures{time_left.suffix(done)}", preview)
            if source_images:
                stored.merge()


def _load(image: SourceImage, size: tuple[int, int]) -> Image.Image:
    try:
        return fit(image.load(), size)
    except UnusableImage as error:
        raise _refusal([f"{image.name}: {error}"]) from error


def _order_reward(rollout: Rollout, groups: Sequence[ImageGroup]) -> tuple[Reward, str]:
    """Return the reward that the file names give, and a sentence about it.

    It goes in equal steps from 1 for the best image of a group to 0 for the worst.
    """
    import numpy as np

    from ..rewards.precomputed import PrecomputedReward, UnavailableReward

    unordered = [group.label for group in groups if group.ranks is None]
    if unordered:
        of_groups = "" if len(unordered) == len(groups) else f" of {shorten(unordered)}"
        reason = f"the file names{of_groups} give no order, so there is no reward"
        remedy = (
            "Name the pictures of every prompt 1, 2, 3, ... with the best first, or end the names "
            "in _w (better) and _l (worse); or score the groups with another reward."
        )
        return UnavailableReward("order", reason, remedy), reason
    values = []
    for group in groups:
        levels = sorted(set(group.ranks or ()))
        values.append([1 - levels.index(rank) / (len(levels) - 1) for rank in group.ranks or ()])
    reward = PrecomputedReward("order", rollout, np.array(values, dtype=np.float32), _NODE)
    return (
        reward,
        "the reward is the order of the file names: 1 for the best of a group, 0 for the worst",
    )
