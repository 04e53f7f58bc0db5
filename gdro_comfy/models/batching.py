"""How many images are sampled at once: by their size and, where a device tells its free memory, by count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..data.conditioning import BatchedConditioning
from . import counting
from .device_memory import free_bytes

_MOST = 8
"""Images at once if memory allows: more hardly fill a card better, and each batch is a step of progress."""
_SPARE = 2 << 30
"""Bytes that stay free for what the count does not see: kernels, fragmentation, the decoding that follows."""


def images_at_once(
    size: tuple[int, int], device: torch.device, away: int, per_image: Callable[[], int]
) -> int:
    """Return how many images of this size (width, height) to sample at once, 1 or more.

    It is 64 for 64 x 64 pixels, fewer for larger images and 1 from 512 x 512 on; and as many as fit, up to 8,
    if that is more. Where too many are tried all the same, ``device_memory.in_parts`` halves them.

    Args:
        away: bytes of weights that are still to come onto the device.
        per_image: counts the bytes that each takes in a pass.
    """
    sure = max(1, min(64, 64 * 64 * 64 // (size[0] * size[1])))
    free = free_bytes(device)
    if free is None or device.type == "cpu":
        return sure
    return max(sure, min(_MOST, (free - away - _SPARE) // max(1, per_image())))


def pass_in_bytes(model: Any, size: tuple[int, int]) -> int:
    """Count the bytes that an image takes in a pass of sampling: twice, as with classifier-free guidance.

    Args:
        model: a ``PipelineModel``.
        size: (width, height) in pixels.
    """
    with torch.inference_mode(False):
        twin, config = model.without_values(), model.transformer.config
        width, height = (side // model.latent_downscale for side in size)
        x = torch.empty(2, model.latent_channels, height, width, device=counting.META)
        hidden = torch.empty(2, model.text_tokens, config.joint_attention_dim)
        pooled = torch.empty(2, config.pooled_projection_dim)
        cond = model.with_guidance(BatchedConditioning({"hidden": hidden, "pooled": pooled}), 1.0)
        cond, sigma = cond.to(counting.META, model.dtype), torch.empty(2, device=counting.META)
        return counting.peak_of(lambda: twin.velocity(x, sigma, cond), [twin.transformer])
