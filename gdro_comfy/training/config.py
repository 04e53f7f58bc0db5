"""The settings of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..models.base import AdapterConfig


@dataclass(frozen=True)
class TrainConfig:
    """How a LoRA is trained.

    Args:
        steps: optimiser steps.
        groups_per_step: prompts in one step.
        learning_rate: peak of the cosine schedule, after ``warmup_steps``.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights that become the LoRA; 0 keeps the last weights.
        adapter: rank, alpha and place of the LoRA.
        sigma_sampler: how noise levels are drawn, "uniform" or "logit-normal".
        sigma_min, sigma_max: range of noise levels.
        seed: of everything random in training.
        checkpoint_every, preview_every: in steps; 0 is never (a cancelled run still saves one).
        images_at_once: images in one pass; 0 is all of a step, or what is estimated to fit. Less
            than a group costs one forward pass more. Does not change the result.
        reference_draws: noises and noise levels that each group has; 0 draws new ones in every step.
            The base's errors at fixed ones are computed once and kept.
        gradient_checkpointing: keep only what enters each block and compute the rest again in the
            backward pass: less memory, one forward pass more. Does not change the result.
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

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a fiftieth; ``step`` counts from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
