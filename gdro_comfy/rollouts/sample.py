"""Sampling groups: for every prompt, G images with seeds of their own, written as they are finished."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data.rollout import SAMPLED_WITH, Rollout
from ..data.runs import Group, Run, RunSettings, image_seed
from ..errors import InputError
from ..imaging import contact_sheet, to_pil
from ..lora import files
from ..time_left import Pace

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..data.aligned import TrainResult
    from ..data.conditioning import Conditioning
    from ..data.prompts import Prompt, PromptSet
    from ..host import Host
    from ..models.base import FlowModel


@dataclass(frozen=True)
class RolloutConfig:
    """How groups are sampled.

    Args:
        images_per_prompt: G, the size of a group, 2 or more.
        steps: Euler steps from noise to image.
        guidance: classifier-free guidance scale; 1 is none (and half of the work).
        width, height: in pixels; 0 is the model's own size.
        seed: of the run.
        run_name: of the folder below ``gdro/``.
        batch_size: images sampled at once; 0 chooses by the size of the images.
    """

    images_per_prompt: int = 16
    steps: int = 28
    guidance: float = 1.0
    width: int = 0
    height: int = 0
    seed: int = 0
    run_name: str = "run"
    batch_size: int = 0


def image_size(model: FlowModel, width: int, height: int) -> tuple[int, int]:
    """The size to sample at; 0 is the model's own. Raises ``InputError`` unless it fits the model."""
    size = (width or model.default_size[0], height or model.default_size[1])
    for name, side in zip(("width", "height"), size, strict=True):
        if side < model.size_multiple or side % model.size_multiple:
            below = max(model.size_multiple, side // model.size_multiple * model.size_multiple)
            raise InputError(
                name,
                f"{side} is not a multiple of {model.size_multiple} pixels",
                f"This model needs one: {below} or {below + model.size_multiple}, say.",
            )
    return size


def generate(
    host: Host,
    model: FlowModel,
    prompts: PromptSet,
    config: RolloutConfig,
    aligned: TrainResult | None = None,
) -> Rollout:
    """Sample what is missing of ``prompts`` x ``images_per_prompt`` images, and return the handle.

    A repeated or interrupted call makes only what is not on disk yet. More prompts or more images
    per prompt add to the run; any other setting opens another run. ``aligned`` samples with that
    LoRA on, at strength 1.
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
    identity, state = model.identity, None
    if aligned is not None:
        files.check_trained_for(aligned, model)
        state = files.load(aligned.path)
        files.check_fits(state, model, aligned.path.name)
        identity = {**identity, SAMPLED_WITH: {"lora": aligned.path.stem}}
    settings = RunSettings(identity, config.steps, config.guidance, size, config.seed)
    run = Run.open(host.output_dir, config.run_name, settings)
    rollout = Rollout(run, tuple(prompts), config.images_per_prompt)
    host.emit("rollout", {"run": run.folder.name})
    return fill(host, model, rollout, config.batch_size, state)


def fill(
    host: Host,
    model: FlowModel,
    rollout: Rollout,
    batch_size: int = 0,
    lora_state: dict[str, Tensor] | None = None,
) -> Rollout:
    """Sample the images of a rollout that are not on disk yet, with the model as it is now, and a LoRA
    (as ``lora.load`` returns it) on it."""
    settings, count = rollout.run.settings, rollout.images_per_prompt
    missing = [
        (group, place) for group in rollout.groups() for place in range(group.count(), count)
    ]
    if not missing:
        return rollout
    total = len(rollout.prompts) * count
    pace, left = Pace(total), ""
    batch_size = batch_size or default_batch(settings.size)
    host.free_memory()
    with_lora = model.with_lora(lora_state) if lora_state else contextlib.nullcontext()
    with model.active(), with_lora:
        encode_prompts(host, model, list(dict.fromkeys(group for group, _ in missing)))
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            done = total - len(missing) + start
            host.progress(done, total, f"sampling groups{left}")
            images = _make(host, model, batch, settings)
            preview = contact_sheet(images[:16], 4)
            left = pace.left(done + len(batch))
            host.progress(done + len(batch), total, f"sampling groups{left}", preview)
    return rollout


def encode_prompts(host: Host, model: FlowModel, groups: list[Group], at_once: int = 16) -> None:
    """Encode the prompts that are not encoded yet, before anything is sampled: the text encoders go
    onto the device once, and a large one need not share it with the network."""
    waiting = [group for group in groups if not group.is_encoded()]
    for start in range(0, len(waiting), at_once):
        host.check_cancelled()
        part = waiting[start : start + at_once]
        encoded = model.encode([group.prompt for group in part])
        for place, group in enumerate(part):
            group.keep_conditioning(encoded.select([place]))
        host.progress(start + len(part), len(waiting), "encoding prompts")


def default_batch(size: tuple[int, int]) -> int:
    """Images at once: 64 of 64 x 64 pixels, fewer the larger they are, one of 512 x 512 or more."""
    return max(1, min(64, 64 * 64 * 64 // (size[0] * size[1])))


def _make(
    host: Host, model: FlowModel, batch: list[tuple[Group, int]], settings: RunSettings
) -> list[Image.Image]:
    """Sample, decode and store some images, which may belong to several prompts."""
    from ..data.conditioning import Conditioning

    groups = list(dict.fromkeys(group for group, _ in batch))
    encoded = Conditioning.cat([group.conditioning() for group in groups]).to(model.device)
    latents, images = sample_images(
        host,
        model,
        encoded.select([groups.index(group) for group, _ in batch]),
        [group.image_seed(place) for group, place in batch],
        settings,
    )
    for place, group in enumerate(groups):
        mine = [i for i, (owner, _) in enumerate(batch) if owner is group]
        group.add(latents[mine], [images[i] for i in mine], encoded.select([place]))
    return images


def sample_images(
    host: Host,
    model: FlowModel,
    cond: Conditioning,
    seeds: Sequence[int],
    settings: RunSettings,
) -> tuple[Tensor, list[Image.Image]]:
    """Latents and RGB images for encoded prompts; checks for cancellation at every step."""

    def on_step(step: int, steps: int, estimate: Tensor) -> None:
        host.check_cancelled()

    latents = model.sample(cond, seeds, settings.steps, settings.guidance, settings.size, on_step)
    return latents, to_pil(model.decode(latents))


def sample_prompts(
    host: Host, model: FlowModel, prompts: Sequence[Prompt], count: int, settings: RunSettings
) -> Iterator[tuple[Tensor, list[Image.Image]]]:
    """Batches of latents and RGB images, ``count`` of each prompt, one prompt after the other; nothing
    is stored."""
    encoded = model.encode(prompts)
    asked = [
        (place, image_seed(settings.seed, prompt.text, image))
        for place, prompt in enumerate(prompts)
        for image in range(count)
    ]
    size = default_batch(settings.size)
    for start in range(0, len(asked), size):
        places, seeds = zip(*asked[start : start + size], strict=True)
        yield sample_images(host, model, encoded.select(places), seeds, settings)
