"""How much memory a training takes, said before it starts, and how many images go through at once.

An estimate, not a promise: the weights as they are stored, five float32 copies of the adapter (weights,
gradient, two moments, average), what the images keep for the backward pass, and a gigabyte for the rest.
Where it is wrong, a step that runs out of memory is repeated with half as many images.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from ..host import Host
    from ..models.base import FlowModel
    from .config import TrainConfig

log = logging.getLogger(__name__)

_REST = 1e9
_COPIES = 5 * 4
# Of the bytes of a 16-bit base: bitsandbytes keeps scales beside the packed weights.
_SMALLER = {"8-bit": 0.51, "nf4": 0.29}


def plan(
    host: Host,
    model: FlowModel,
    size: tuple[int, int],
    group_size: int,
    trainable: int,
    config: TrainConfig,
) -> TrainConfig:
    """Say what the training will take, and choose ``images_at_once`` where the settings leave it open.

    Args:
        size: of the images, in pixels.
        trainable: numbers that are trained.

    Raises:
        InputError: not even one image fits; with the settings that would.
    """
    everything = config.groups_per_step * group_size
    budget = _budget(model.device)
    images = config.images_at_once or everything
    if budget is not None and not config.images_at_once:
        images = _fitting(model, size, trainable, config, budget, everything, group_size)
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
    smaller: float = 1.0,
) -> float:
    """Bytes on the device in a training step; ``smaller`` is the share of the weights that is left."""
    kept = images * model.activations_in_bytes(size, checkpointed)
    return smaller * model.weights_in_bytes() + _COPIES * trainable + kept + _REST


def _fitting(
    model: FlowModel,
    size: tuple[int, int],
    trainable: int,
    config: TrainConfig,
    budget: float,
    everything: int,
    group_size: int,
) -> int:
    """The most images that fit; whole groups where at least one does."""
    checkpointed = config.gradient_checkpointing
    spare = budget - estimate(model, size, 0, trainable, checkpointed)
    images = int(min(everything, spare // model.activations_in_bytes(size, checkpointed)))
    if images >= 1:
        return images // group_size * group_size if images >= group_size else images
    remedies = []
    if not checkpointed and estimate(model, size, 1, trainable, True) <= budget:
        remedies.append("turn on gradient_checkpointing")
    for name, share in _SMALLER.items():
        if estimate(model, size, 1, trainable, True, share) <= budget:
            remedies.append(f"load the model with quantization {name} and gradient_checkpointing")
    need = estimate(model, size, 1, trainable, checkpointed)
    raise InputError(
        "model",
        f"training needs about {need / 1e9:.1f} GB, and this device has {budget / 1e9:.1f} GB for it",
        f"What would fit: {'; or '.join(remedies) or 'smaller pictures in a new rollout'}.",
    )


def _budget(device: torch.device) -> float | None:
    """Bytes that this process may use on the device; None where that is not known."""
    if device.type != "cuda":
        return None
    free, _ = torch.cuda.mem_get_info(device)
    return float(free + torch.cuda.memory_reserved(device))


def watch(device: torch.device) -> None:
    """What ``used`` says of a GPU counts from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def used(device: torch.device) -> int | None:
    """Bytes that this process has on the device: by PyTorch on a GPU, the most since ``watch``; resident
    now on a CPU. None where that is not known."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type != "cpu":
        return None
    try:
        import psutil
    except ImportError:  # it comes with accelerate, but nothing else here needs it
        return None
    return int(psutil.Process().memory_info().rss)
