"""Sample groups of images: G images for every prompt, each with its own seed, stored as they finish."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..data.conditioning import Conditioning
from ..data.groups import Group, image_seed
from ..data.rollout import SAMPLED_WITH, Rollout
from ..data.run_lock import writing
from ..data.runs import Run, RunSettings, SamplerChoice
from ..distributed import shares, world
from ..errors import InputError
from ..imaging import contact_sheet, to_pil
from ..lora import files as lora_files
from ..models.device_memory import in_parts
from ..time_left import TimeLeft
from . import mending

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..data.aligned import AlignedLoRA
    from ..data.lora_weights import LoRAWeights
    from ..data.prompts import Prompt, PromptSet
    from ..host import Host
    from ..models.base import FlowModel
    from ..progress import Progress

log = logging.getLogger(__name__)

_PROMPTS_AT_ONCE = 16
_DECODED_PIXELS = 2 * 1024 * 1024
"""Pixels that a VAE decodes at once; one image at least."""


@dataclass(frozen=True)
class RolloutConfig:
    """How groups are sampled.

    Args:
        images_per_prompt: G, the size of a group, 2 or more.
        steps: Euler steps from noise to image.
        guidance: classifier-free guidance scale; 1 is none, at half the cost; 0 is the model's own.
        width, height: in pixels; 0 is the model's default size.
        seed: of the run.
        run_name: start of the folder's name below ``gdro/``.
        batch_size: images sampled at once; 0 chooses by their size.
        sampler: for a model that has a choice; None is its default.
    """

    images_per_prompt: int = 16
    steps: int = 28
    guidance: float = 1.0
    width: int = 0
    height: int = 0
    seed: int = 0
    run_name: str = "run"
    batch_size: int = 0
    sampler: SamplerChoice | None = None


def image_size(model: FlowModel, width: int, height: int) -> tuple[int, int]:
    """Return the size to sample at, in pixels; 0 stands for the model's default.

    Raises:
        InputError: a side is not a multiple of what the model needs.
    """
    size = (width or model.default_size[0], height or model.default_size[1])
    for name, side in zip(("width", "height"), size, strict=True):
        if side < model.size_multiple or side % model.size_multiple:
            lower = max(model.size_multiple, side // model.size_multiple * model.size_multiple)
            raise InputError(
                name,
                f"{side} is not a multiple of {model.size_multiple} pixels",
                f"This model needs one, for example {lower} or {lower + model.size_multiple}.",
            )
    return size


def guidance_of(model: FlowModel, guidance: float) -> float:
    """Return the guidance to sample with; 0 stands for the one that the model is made for."""
    own = model.default_guidance
    if own > 1 and guidance == 1:
        log.warning(
            "%s has its guidance built in and is made for about %g; at 1 its images are worse",
            model.title, own,
        )  # fmt: skip
    return guidance or own


def sample_rollout(
    host: Host,
    model: FlowModel,
    prompts: PromptSet,
    config: RolloutConfig,
    aligned: AlignedLoRA | None = None,
) -> Rollout:
    """Sample ``images_per_prompt`` images for each prompt, as far as they are not on disk yet.

    Repeating the call, also after an interruption, samples only what is missing. More prompts or more
    images per prompt add to the run; any other setting opens another run. Several processes sample a share
    of the prompts each, and return once all of it is on disk.

    Args:
        aligned: a LoRA to sample with, at strength 1.

    Raises:
        InputError: a setting does not fit the model, or a prompt cannot be encoded.
    """
    if config.images_per_prompt < 2:
        raise InputError(
            "images_per_prompt",
            f"{config.images_per_prompt} leaves nothing to compare",
            "Use 2 or more images per prompt; the paper uses 16.",
        )
    if not len(prompts):
        raise InputError("prompts", "there are none", "Give at least one prompt.")
    size = image_size(model, config.width, config.height)
    model.check_prompts(prompts.prompts)
    weights = None
    identity = model.identity
    if aligned is not None:
        lora_files.check_trained_for(aligned, model)
        model = model.as_recorded(aligned.model)
        weights = lora_files.load(aligned.path)
        lora_files.check_fits(weights, model, aligned.path.name)
        identity = {**model.identity, SAMPLED_WITH: {"lora": aligned.path.stem}}
    guidance = guidance_of(model, config.guidance)
    sampler = model.resolve_sampler(config.sampler, guidance)
    settings = RunSettings(identity, config.steps, guidance, size, config.seed, sampler=sampler)
    several = world()
    with several.main_first():
        run = Run.open(host.output_dir, config.run_name, settings)
    model = model.as_recorded(run.settings.model)
    rollout = Rollout(run, tuple(prompts), config.images_per_prompt)
    with writing(run.folder):
        host.emit("rollout", {"run": run.folder.name})
        # Others write only once the main process has the lock, which it keeps until all are done.
        share = several.agree(lambda: _dealt(rollout, several.size))[several.rank]
        sample_missing(
            host, model, rollout, batch_size=config.batch_size, lora=weights, share=slice(*share)
        )
        several.barrier()
    return rollout


def _dealt(rollout: Rollout, size: int) -> list[list[int]]:
    """Return the prompts of each process, as the first and the one after the last."""
    if size == 1:
        return [[0, len(rollout.prompts)]]
    found = mending.clear(rollout.groups())
    # A prompt that is only to be encoded, or whose images are lost, costs about as much as an image.
    costs = [
        max(rollout.images_per_prompt - s.count, 0) + (not s.encoded) + len(s.lost)
        for s in found.values()
    ]
    return shares(costs, size)


def sample_missing(
    host: Host,
    model: FlowModel,
    rollout: Rollout,
    *,
    batch_size: int = 0,
    lora: LoRAWeights | None = None,
    encoded: Rollout | None = None,
    stage: str = "sampling groups",
    share: slice = slice(None),
) -> None:
    """Sample the images of a rollout that are not on disk yet, with the model as it is now.

    What is damaged or gone of the others, as far as that shows without reading all of it, is made anew.

    Args:
        batch_size: images at once; 0 chooses by their size.
        lora: to sample with, at strength 1; a model in training needs none.
        encoded: a rollout of the same model that may have encoded the prompts already.
        stage: name of the work in progress reports.
        share: the prompts to sample; others are left to other processes.
    """
    settings, count = rollout.run.settings, rollout.images_per_prompt
    groups = rollout.groups()
    found = mending.clear(groups[share])
    missing = [(g, index) for g, state in found.items() for index in range(state.count, count)]
    # A prompt without its encoding cannot be trained on, though all its images are there.
    unencoded = [group for group, state in found.items() if state.count and not state.encoded]
    lost = {group: state.lost for group, state in found.items() if state.lost}
    if not (missing or unencoded or lost):
        return
    total = len(found) * count
    time_left, left = TimeLeft(total), ""
    batch_size = batch_size or model.batch_size(settings.size)
    host.free_memory()
    with_lora = model.with_lora(lora) if lora is not None else contextlib.nullcontext()
    with model.active(), with_lora:
        waiting = dict.fromkeys([*unencoded, *(group for group, _ in missing)])
        encode_prompts(host, model, list(waiting), encoded, groups)
        mending.decode_lost(host, model, lost)
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            done = total - len(missing) + start
            host.progress(done, total, f"{stage}{left}")
            images = _sample_batch(host, model, batch, settings)
            for group, index in batch:
                if index == count - 1:
                    group.merge()
            preview = contact_sheet(images[:16], 4)
            left = time_left.suffix(done + len(batch))
            host.progress(done + len(batch), total, f"{stage}{left}", preview)


def encode_prompts(
    host: Progress,
    model: FlowModel,
    groups: Sequence[Group],
    encoded: Rollout | None = None,
    among: Sequence[Group] = (),
) -> None:
    """Encode the prompts that are not encoded yet, and store them.

    All are encoded before anything is sampled: the text encoders go onto the device once, and need not
    share it with the network.

    Args:
        encoded: a rollout of the same model that may have encoded the prompts already.
        among: all groups of the rollout. A prompt is encoded together with those around it there, as it
            would have been without an interruption: alone, its last bits may differ.
    """
    waiting = []
    for group in groups:
        source = encoded.run.group(group.prompt) if encoded is not None else group
        if not group.is_encoded() and source.is_encoded():
            group.write_conditioning(source.conditioning())
        elif not group.is_encoded():
            waiting.append(group)
    order, asked = list(among or waiting), set(waiting)
    starts = range(0, len(order), _PROMPTS_AT_ONCE)
    parts = [order[start : start + _PROMPTS_AT_ONCE] for start in starts]
    together = [group for part in parts if asked & set(part) for group in part]
    done = 0
    for conditioning in _encoded(host, model, [group.prompt for group in together]):
        for index in range(len(conditioning)):
            if together[done] in asked:
                together[done].write_conditioning(conditioning.select([index]))
            done += 1
        host.progress(done, len(together), "encoding prompts")


def encode_in_parts(host: Progress, model: FlowModel, prompts: Sequence[Prompt]) -> Conditioning:
    """Encode prompts, some at a time, onto the CPU: text encoders are large, and so is what they compute."""
    return Conditioning.cat([part.to("cpu") for part in _encoded(host, model, prompts)])


def _encoded(host: Progress, model: FlowModel, prompts: Sequence[Prompt]) -> Iterator[Conditioning]:
    def encode(part: slice) -> Conditioning:
        host.check_cancelled()
        return model.encode(prompts[part])

    return in_parts(model, encode, len(prompts), _PROMPTS_AT_ONCE, "encoding prompts")


def _sample_batch(
    host: Progress, model: FlowModel, batch: Sequence[tuple[Group, int]], settings: RunSettings
) -> list[Image.Image]:
    """Sample, decode and store images of one or several groups."""
    groups = list(dict.fromkeys(group for group, _ in batch))
    encoded = Conditioning.cat([group.conditioning() for group in groups]).to(model.device)
    latents, images = sample_images(
        host,
        model,
        encoded.select([groups.index(group) for group, _ in batch]),
        [group.image_seed(index) for group, index in batch],
        settings,
    )
    for number, group in enumerate(groups):
        rows = [row for row, (owner, _) in enumerate(batch) if owner is group]
        group.add(
            batch[rows[0]][1],
            latents[rows],
            [images[row] for row in rows],
            encoded.select([number]),
        )
    return images


def sample_images(
    host: Progress,
    model: FlowModel,
    conditioning: Conditioning,
    seeds: Sequence[int],
    settings: RunSettings,
) -> tuple[Tensor, list[Image.Image]]:
    """Sample one image for each encoded prompt; look for cancellation at every step.

    Returns:
        Latents ``[n, c, h, w]``, and the n images.

    Raises:
        InputError: not even one image fits into the device's memory.
    """
    count, indices = len(seeds), range(len(seeds))

    def sample(part: slice) -> Tensor:
        return model.sample(
            conditioning.select(indices[part]),
            seeds[part],
            settings.steps,
            settings.guidance,
            settings.size,
            lambda step, steps, estimate: host.check_cancelled(),
            settings.sampler,
        )

    latents = torch.cat(list(in_parts(model, sample, count, count, "sampling")))
    at_once = max(1, _DECODED_PIXELS // math.prod(settings.size))
    decoded = in_parts(model, lambda p: model.decode(latents[p]), count, at_once, "decoding")
    return latents, [image for part in decoded for image in to_pil(part)]


def sample_prompts(
    host: Progress,
    model: FlowModel,
    prompts: Sequence[Prompt],
    count: int,
    settings: RunSettings,
    conditioning: Conditioning | None = None,
) -> Iterator[tuple[Tensor, list[Image.Image]]]:
    """Sample ``count`` images of each prompt, one prompt after the other; nothing is stored.

    Args:
        conditioning: the encoded prompts, if the caller has them.

    Yields:
        Batches of latents and images.
    """
    encoded = encode_in_parts(host, model, prompts) if conditioning is None else conditioning
    encoded = encoded.to(model.device)
    jobs = [
        (number, image_seed(settings.seed, prompt.text, index))
        for number, prompt in enumerate(prompts)
        for index in range(count)
    ]
    batch_size = model.batch_size(settings.size)
    for start in range(0, len(jobs), batch_size):
        numbers, seeds = zip(*jobs[start : start + batch_size], strict=True)
        yield sample_images(host, model, encoded.select(numbers), seeds, settings)
