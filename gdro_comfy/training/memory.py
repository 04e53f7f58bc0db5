"""Estimate the memory of a training before it starts, and how many images go through at once.

It is an estimate, not a promise: the weights as they are stored, five float32 copies of the adapter
(weights, gradient, two moments, average), what the images store for the backward pass, and a gigabyte for
the rest. Where it is too low, a step that runs out of memory is repeated with half as many images.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from ..models.base import FlowModel
    from ..progress import Progress
    from .config import TrainConfig

log = logging.getLogger(__name__)

_REST = 1e9
_ADAPTER_COPIES = 5 * 4
# Shares of the bytes of a 16-bit base: bitsandbytes stores scales beside the packed weights.
_QUANTIZED = {"8-bit": 0.51, "nf4": 0.29}


def plan(
    host: Progress,
    model: FlowModel,
    size: tuple[int, int],
    group_size: int,
    trainable: int,
    config: TrainConfig,
) -> TrainConfig:
    """Report what the training will take, and choose ``images_at_once`` where the settings leave it open.

    Args:
        size: of the images, in pixels.
        group_size: images of a prompt that train together.
        trainable: number of trained weights.

    Raises:
        InputError: not even one image fits; says which settings would.
    """
    images_per_step = config.groups_per_step * group_size
    budget = _budget(model.device)
    images = config.images_at_once or images_per_step
    if budget is not None and not config.images_at_once:
        images = _fitting(model, size, trainable, config, budget, images_per_step, group_size)
    need = estimate(model, size, images, trainable, config.gradient_checkpointing)
    host.progress(0, config.steps, f"training, about {need / 1e9:.1f} GB")
    log.info("about %.1f GB with %d images at once", need / 1e9, images)
    return dataclasses.replace(config, images_at_once=images)


def estimate(
    model: FlowModel,
    size: tuple[int, int],
    images: int,
    trainable: int,
    checkpointed: bool,
    weight_share: float = 1.0,
) -> float:
    """Return the bytes on the device in a training step.

    Args:
        weight_share: what quantization would leave of the model's weights, in (0, 1].
    """
    activations = images * model.activations_in_bytes(size, checkpointed)
    adapter = _ADAPTER_COPIES * trainable
    return weight_share * model.weights_in_bytes() + adapter + activations + _REST


def _fitting(
    model: FlowModel,
    size: tuple[int, int],
    trainable: int,
    config: TrainConfig,
    budget: float,
    images_per_step: int,
    group_size: int,
) -> int:
    """Return the most images that fit; whole groups if at least one fits."""
    checkpointed = config.gradient_checkpointing
    spare = budget - estimate(model, size, 0, trainable, checkpointed)
    images = int(min(images_per_step, spare // model.activations_in_bytes(size, checkpointed)))
    if images >= 1:
        return images // group_size * group_size if images >= group_size else images
    remedies = []
    if not checkpointed and estimate(model, size, 1, trainable, True) <= budget:
        remedies.append("turn on gradient_checkpointing")
    for name, share in _QUANTIZED.items():
        if estimate(model, size, 1, trainable, True, share) <= budget:
            remedies.append(f"load the model with quantization {name} and gradient_checkpointing")
    need = estimate(model, size, 1, trainable, checkpointed)
    raise InputError(
        "model",
        f"training needs about {need / 1e9:.1f} GB, and this device has {budget / 1e9:.1f} GB for it",
        f"What would fit: {'; or '.join(remedies) or 'smaller pictures in a new rollout'}.",
    )


def _budget(device: torch.device) -> float | None:
    """Return the bytes that this process may use on the device; None if that is unknown."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return float(free + torch.cuda.memory_reserved(device))


def reset_peak(device: torch.device) -> None:
    """Start measuring what ``peak`` returns for a GPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> int | None:
    """Return the bytes that this process uses on the device; None if that is unknown.

    On a GPU it is PyTorch's peak since ``reset_peak``, on a CPU the resident memory now.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type != "cpu":
        return None
    try:
        import psutil
    except ImportError:  # comes with accelerate; nothing else here needs it
        return None
    return int(psutil.Process().memory_info().rss)
