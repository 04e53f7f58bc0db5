"""Sample a few images of one prompt, with the base model or an aligned one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.prompts import Prompt
from ..errors import InputError
from ..lora import files as lora_files
from ..models.device_memory import in_parts
from .sample import guidance_of, image_size

if TYPE_CHECKING:
    from ..data.aligned import AlignedLoRA
    from ..host import Host
    from ..models.base import FlowModel


def generate(
    host: Host,
    model: FlowModel,
    prompt: str,
    images: int,
    seed: int,
    *,
    steps: int,
    guidance: float,
    width: int = 0,
    height: int = 0,
    strength: float = 1.0,
    aligned: AlignedLoRA | None = None,
) -> Tensor:
    """Sample images ``[images, h, w, 3]`` in [0, 1]; nothing is stored.

    The i-th image has seed ``seed + i``, with and without a LoRA.

    Raises:
        InputError: the prompt is empty or cannot be encoded, or the size or LoRA does not fit.
    """
    if not prompt.strip():
        raise InputError("prompt", "it is empty", "Say what the image should show.")
    size = image_size(model, width, height)
    prompts = [Prompt(prompt.strip())]
    model.check_prompts(prompts)
    with_lora = contextlib.nullcontext()
    if aligned is not None and strength:
        weights = lora_files.load(aligned.path)
        lora_files.check_fits(weights, model, aligned.path.name)
        model = model.as_recorded(aligned.model)
        with_lora = model.with_lora(weights, strength)
    guidance = guidance_of(model, guidance)
    sampler = model.resolve_sampler(aligned.sampler() if aligned is not None else None, guidance)
    host.free_memory()
    batch = model.batch_size(size)
    with model.active(), with_lora:
        conditioning = model.encode(prompts)

        def sample(part: slice) -> Tensor:
            seeds = [seed + i for i in range(part.start, part.stop)]

            def on_step(step: int, total: int, _: Tensor) -> None:
                host.check_cancelled()
                done = part.start * total + step * len(seeds)
                host.progress(done, images * total, "generating")

            cond = conditioning.select([0] * len(seeds))
            return model.sample(cond, seeds, steps, guidance, size, on_step, sampler)

        parts = []
        for latents in in_parts(model, sample, images, batch, "sampling"):
            parts += in_parts(
                model, lambda p, z=latents: model.decode(z[p]), len(latents), 1, "decoding"
            )
    return torch.cat(parts)
