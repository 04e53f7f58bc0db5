"""Count the memory of a training before it starts, and choose how many images go through at once.

What a step needs is the weights as they are stored, four float32 copies of the adapter (weights, two
moments, average), what is live at the peak of a forward and backward pass, and a gigabyte for kernels and
fragmentation. The peak is counted on a copy without values (``models/counting.py``). Where that is too low
all the same, a step that runs out of memory is repeated with half as many images.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import InputError
from ..models import counting
from ..models.device_memory import free_bytes

if TYPE_CHECKING:
    from ..data.conditioning import Conditioning
    from ..data.rollout import Rollout
    from ..models.base import AdapterConfig, FlowModel
    from ..progress import Progress
    from .config import TrainConfig

log = logging.getLogger(__name__)

_REST = 1e9
_ADAPTER_COPIES = 4 * 4


@dataclass(frozen=True)
class StepMemory:
    """The bytes that a step allocates beside weights, moments and average: linear in the images.

    Args:
        fixed: whatever the number of images.
        per_image: for each image that goes through at once.
    """

    fixed: float
    per_image: float

    def of(self, images: int) -> float:
        return self.fixed + self.per_image * images


@dataclass(frozen=True)
class Example:
    """What goes through a network in one training: the shape of an image's latents, and an encoded prompt."""

    shape: tuple[int, ...]
    conditioning: Conditioning

    @classmethod
    def of(cls, model: FlowModel, rollout: Rollout) -> Example:
        """Take the group with the longest prompt."""
        lengths = [len(prompt.text) for prompt in rollout.prompts]
        group = rollout.groups()[lengths.index(max(lengths))]
        conditioning = model.with_guidance(group.conditioning(), rollout.run.settings.guidance)
        return cls(tuple(group.latents().shape[1:]), conditioning)


def plan(
    host: Progress, model: FlowModel, rollout: Rollout, group_size: int, config: TrainConfig
) -> TrainConfig:
    """Report what the training will take, and choose ``images_at_once`` where the settings leave it open.

    Where fewer images than a group fit, which costs one more forward pass, and more fit with gradient
    checkpointing, which costs as much, that is turned on: neither changes the result.

    Args:
        rollout: to train on.
        group_size: images of a prompt that train together.

    Raises:
        InputError: not even one image fits; says which settings would.
    """
    images_per_step = config.groups_per_step * group_size
    budget = _budget(model.device)
    images = config.images_at_once or images_per_step
    example = Example.of(model, rollout)
    step = count(model, example, config.adapter, config.gradient_checkpointing)
    if step is None:
        return dataclasses.replace(config, images_at_once=images)
    static = static_bytes(model, config.adapter)
    if budget is not None and not config.images_at_once:
        images = _images_that_fit(budget - static, step, images_per_step, group_size)
        if images < group_size and not config.gradient_checkpointing:
            recomputed = count(model, example, config.adapter, True) or step
            more = _images_that_fit(budget - static, recomputed, images_per_step, group_size)
            out = model.weights_in_bytes() if model.weights_may_stay_out else 0
            if more > max(images, 0) or (images < 1 and static - out + step.of(1) > budget):
                log.info(
                    "images that fit at once: %d, and %d with gradient_checkpointing, which is turned on",
                    max(images, 0), max(more, 0),
                )  # fmt: skip
                config = dataclasses.replace(config, gradient_checkpointing=True)
                step, images = recomputed, more
        if images < 1:
            _check_fits(model, budget, static, step)
            images = 1
    need = static + step.of(images)
    model.reserve(int(need - model.weights_in_bytes()))
    host.progress(0, config.steps, f"training, about {need / 1e9:.1f} GB")
    log.info("about %.1f GB with %d images at once", need / 1e9, images)
    return dataclasses.replace(config, images_at_once=images)


def _images_that_fit(free: float, step: StepMemory, images_per_step: int, group_size: int) -> int:
    """Return how many images can go at once, whole groups if possible; 0 or less if not even one can."""
    images = int(min(images_per_step, (free - step.fixed) // step.per_image))
    return images // group_size * group_size if images >= group_size else images


def static_bytes(model: FlowModel, adapter: AdapterConfig) -> float:
    """Return the bytes that stay on the device between steps, with a gigabyte for kernels and the like."""
    shapes = model.linear_shapes()
    trainable = adapter.rank * sum(sum(shapes[n]) for n in model.adapter_modules(adapter.target))
    return model.weights_in_bytes() + _ADAPTER_COPIES * trainable + _REST


def count(
    model: FlowModel, example: Example, adapter: AdapterConfig, checkpointed: bool
) -> StepMemory | None:
    """Count what a step allocates; None, with a word in the log, for a network that cannot be copied."""
    try:
        # ComfyUI runs nodes in inference mode, in which the copy's tensors could not enter autograd.
        with torch.inference_mode(False):
            twin = model.without_values()
            one, two = (
                counting.peak_of_step(
                    twin, example.shape, images, adapter, checkpointed, example.conditioning
                )
                for images in (1, 2)
            )
    except Exception as error:  # networks of other packs may do anything at all in a pass
        log.warning(
            "the memory of this training cannot be counted beforehand (%s: %s); a step that runs out of it "
            "is repeated with fewer images at once", type(error).__name__, str(error)[:200],
        )  # fmt: skip
        return None
    return StepMemory(2 * one - two, two - one)


def _check_fits(model: FlowModel, budget: float, static: float, step: StepMemory) -> None:
    """Raise ``InputError`` unless one image fits with weights in main memory; say what would fit."""
    weights, need = model.weights_in_bytes(), static + step.of(1)
    can_stay_out = weights if model.weights_may_stay_out else 0
    if need - can_stay_out <= budget:
        log.warning(
            "training takes about %.1f GB, and this device has %.1f: a part of the weights stays in main "
            "memory, which takes longer", need / 1e9, budget / 1e9,
        )  # fmt: skip
        return
    remedies = [
        f"load the model with quantization {name}"
        for name, share in model.quantizations.items()
        if need - (1 - share) * weights <= budget
    ]
    raise InputError(
        "model",
        f"training needs about {need / 1e9:.1f} GB, and this device has {budget / 1e9:.1f} GB for it",
        f"What would fit: {'; or '.join(remedies) or 'smaller pictures in a new rollout'}.",
    )


def _budget(device: torch.device) -> float | None:
    """Return the bytes that this process may use on the device; None if that is unknown."""
    free = free_bytes(device)
    if free is None or device.type != "cuda":
        return free
    return float(free + torch.cuda.memory_allocated(device))


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
