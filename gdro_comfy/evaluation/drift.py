"""How far a LoRA moves the model from its base."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.conditioning import Conditioning
from ..models import flow
from ..models.base import seeded_noise
from ..models.device_memory import in_parts

if TYPE_CHECKING:
    from ..data.lora_weights import LoRAWeights
    from ..data.rollout import Rollout
    from ..models.base import FlowModel
    from ..progress import Progress

_IMAGES = 16
_SIGMAS = (0.25, 0.5, 0.75)


def drift(
    host: Progress, model: FlowModel, base: Rollout, weights: LoRAWeights, strength: float
) -> float:
    """Return the mean squared difference of the velocities with and without a LoRA.

    It is measured on the first images of the base's rollout, at several noise levels, with the
    guidance that sampled them where the network is told it.

    Args:
        base: images of the base model on disk.
        weights: of the LoRA.
        strength: of the LoRA.
    """
    count = base.images_per_prompt
    groups = base.groups()[: -(-_IMAGES // count)]
    latents = torch.cat([group.latents()[:count] for group in groups])[:_IMAGES]
    owners = torch.arange(len(groups)).repeat_interleave(count)[: len(latents)]
    noise = seeded_noise(range(len(latents)), latents.shape[1:]).to(model.device)
    total, indices = 0.0, range(len(latents))
    with model.active(), model.with_lora(weights, strength), torch.no_grad():
        encoded = Conditioning.cat([group.conditioning() for group in groups]).to(model.device)
        cond = model.with_guidance(encoded.select(owners), base.run.settings.guidance)

        def moved(part: slice, level: float) -> Tensor:
            host.check_cancelled()
            x0 = latents[part].to(model.device).float()
            sigma = torch.full((len(x0),), level, device=model.device)
            x = flow.interpolate(x0, noise[part], model.told_sigma(sigma))
            its = cond.select(indices[part])
            with_lora = model.velocity(x, sigma, its)
            with model.reference():
                return flow.velocity_error(with_lora, model.velocity(x, sigma, its))

        at_once = model.batch_size(base.run.settings.size)
        for level in _SIGMAS:
            measured = in_parts(
                model, partial(moved, level=level), len(latents), at_once, "measuring the drift"
            )
            total += float(torch.cat(list(measured)).mean())
    return total / len(_SIGMAS)
