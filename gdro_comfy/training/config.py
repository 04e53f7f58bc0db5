"""The settings of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..models.base import AdapterConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a LoRA is trained.

    Optimisation:
        steps: optimiser steps.
        groups_per_step: prompts in one step.
        learning_rate: peak of the cosine schedule, after ``warmup_steps``.
        gradient_clip: largest norm of the gradient.
        weight_decay: of AdamW.
        ema_decay: of the averaged weights that become the LoRA; 0 keeps the last weights instead.
        ema_every: steps between updates of that average.
        seed: of everything random in training.

    Adapter:
        adapter: rank, alpha and target layers of the LoRA.

    Noise levels:
        sigma_sampler: "uniform" or "logit-normal".
        sigma_min, sigma_max: their range, in [0, 1].
        reference_draws: fixed pairs of noise and sigma per group; 0 draws new ones in every step. The
            reference's errors at fixed draws are measured once and kept.

    Running:
        checkpoint_every, preview_every: in steps; 0 is never (an interrupted training still saves one).
        images_at_once: images in one pass; 0 is all of a step, or what is estimated to fit. Fewer than a
            group cost one more forward pass. Does not change the result.
        gradient_checkpointing: store only the input of each block, and recompute the rest in the
            backward pass: less memory, one more forward pass. Does not change the result.
        torch_compile: compile the model's blocks first. Changes the result by rounding only.
    """

    steps: int = 200
    groups_per_step: int = 8
    learning_rate: float = 3e-4
    warmup_steps: int = 10
    gradient_clip: float = 1.0
    weight_decay: float = 0.0
    ema_decay: float = 0.9
    adapter: AdapterConfig = AdapterConfig()
    sigma_sampler: str = "uniform"
    sigma_min: float = 0.0
    sigma_max: float = 1.0
    seed: int = 0
    checkpoint_every: int = 50
    preview_every: int = 50
    images_at_once: int = 0
    gradient_checkpointing: bool = False
    torch_compile: bool = False
    reference_draws: int = 0
    ema_every: int = 1

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0.

        It warms up linearly, then falls along a cosine to a fiftieth of its peak.
        """
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
