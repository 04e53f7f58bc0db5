"""A few images of one prompt, with the base model or an aligned one."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import InputError
from ..lora import files
from .sample import default_batch, image_size

if TYPE_CHECKING:
    from ..data.aligned import TrainResult
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
    aligned: TrainResult | None = None,
) -> Tensor:
    """Images ``[images, h, w, 3]`` in [0, 1]; the i-th has seed ``seed + i``, with and without a LoRA."""
    from ..data.prompts import Prompt

    if not prompt.strip():
        raise InputError("prompt", "it is empty", "Say what the image should show.")
    size = image_size(model, width, height)
    asked = [Prompt(prompt.strip())]
    model.check_prompts(asked)
    context = contextlib.nullcontext()
    if aligned is not None and strength:
        state = files.load(aligned.path)
        files.check_fits(state, model, aligned.path.name)
        context = model.with_lora(state, strength)
    host.free_memory()
    batch = default_batch(size)
    made: list[Tensor] = []
    with model.active(), context:
        cond = model.encode(asked)
        for start in range(0, images, batch):
            seeds = [seed + i for i in range(start, min(images, start + batch))]

            def on_step(
                step: int, total: int, _: Tensor, start: int = start, count: int = len(seeds)
            ) -> None:
                host.check_cancelled()
                host.progress(start * total + step * count, images * total, "generating")

            latents = model.sample(
                cond.select([0] * len(seeds)), seeds, steps, guidance, size, on_step
            )
            made.append(model.decode(latents))
    return torch.cat(made)
