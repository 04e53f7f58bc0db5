"""The trainer's step on one group of random latents; ``step.py`` and ``gpu.py`` measure it."""

from __future__ import annotations

from typing import Any

import random_models
import torch
from torch import Tensor

from gdro_comfy.models import flow
from gdro_comfy.training import step
from gdro_comfy.training.objectives import GDRO


class GroupStep:
    """Forward and backward passes of a GDRO loss on one group.

    Call the methods inside ``model.active()`` and ``model.adapters(...)``.

    Args:
        model: A model of ``random_models``.
        images: Images in the group.
        size: Width and height of the images in pixels.
    """

    def __init__(self, model: Any, images: int, size: int) -> None:
        side = size // 8
        generator = torch.Generator().manual_seed(0)
        x0 = torch.randn(images, 16, side, side, generator=generator).to(model.device)
        noise = torch.randn(1, 16, side, side, generator=generator).to(model.device)
        sigma = torch.full((images,), 0.6, device=model.device)
        self.groups = step.NoisyGroups(
            flow.interpolate(x0, noise, sigma), sigma, flow.target_velocity(x0, noise),
            random_models.conditioning(model, images), images,
        )  # fmt: skip
        self.model, self.objective = model, GDRO(group_size=images)
        self.rewards = torch.linspace(0, 1, images, device=model.device)[None]

    @torch.no_grad()
    def forward(self, images: int) -> Tensor:
        """Return the velocities of the first images of the group, in one pass without gradients."""
        cond = self.groups.conditioning.select(range(images))
        return self.model.velocity(self.groups.x[:images], self.groups.sigma[:images], cond)

    @torch.no_grad()
    def reference_errors(self) -> Tensor:
        """Return the velocity errors ``[1, images]`` of the model without the adapter."""
        signals, _ = step.measure(self.model, self.groups, len(self.groups))
        return signals.reference

    def backward(self, images_at_once: int, reference_errors: Tensor | None = None) -> None:
        """Add the gradients of the loss to the adapter.

        Args:
            images_at_once: Images in one pass.
            reference_errors: Result of ``reference_errors()``, if it is cached.
        """
        signals, backward = step.measure(
            self.model, self.groups, images_at_once, reference_errors=reference_errors
        )
        backward(self.objective.loss(signals, self.rewards).loss)
