"""How far a LoRA moves the model from its base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..data.conditioning import Conditioning
from ..models import flow
from ..models.base import seeded_noise

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
    total = 0.0
    with model.active(), model.with_lora(weights, strength), torch.no_grad():
        encoded = Conditioning.cat([group.conditioning() for group in groups]).to(model.device)
        cond = model.with_guidance(encoded.select(owners), base.run.settings.guidance)
        for level in _SIGMAS:
            host.check_cancelled()
            sigma = torch.full((len(latents),), level, device=model.device)
            x = flow.interpolate(latents.to(model.device).float(), noise, sigma)
            moved = model.velocity(x, sigma, cond)
            with model.reference():
                reference = model.velocity(x, sigma, cond)
            total += float(flow.velocity_error(moved, reference).mean())
    return total / len(_SIGMAS)
