"""Flow-GRPO, for comparison only: stochastic rollouts and a clipped policy ratio.

After "Flow-GRPO: Training Flow Matching Models via Online RL" (arXiv 2505.05470). The flow's ODE is
replaced by an SDE with the same marginals. Every sampling step is then a Gaussian policy, and the
log-likelihood of the step taken can be recomputed with newer weights.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gdro_comfy.data.conditioning import Conditioning
from gdro_comfy.models.base import FlowModel, seeded_noise
from gdro_comfy.training.losses import group_advantages


@dataclass(frozen=True)
class FlowGRPO:
    """Settings.

    Args:
        noise: The paper's a.
        clip: How far the policy ratio may leave 1.
        kl: Weight of the divergence from the base.
        steps: Sampling steps.
    """

    noise: float = 0.7
    clip: float = 1e-3
    kl: float = 0.01
    steps: int = 8


class Trajectories(NamedTuple):
    """Rollouts of one prompt: latents ``points [steps + 1, G, ...]`` and log-likelihoods ``[steps, G]``."""

    cond: Conditioning
    points: Tensor
    likelihoods: Tensor


def noise_levels(settings: FlowGRPO) -> list[float]:
    """Return noise levels from just below 1, where the SDE's noise is finite, to 0."""
    return [min(0.96, 1 - i / settings.steps) for i in range(settings.steps)] + [0.0]


def step_mean(
    x: Tensor, velocity: Tensor, level: float, next_level: float, settings: FlowGRPO
) -> tuple[Tensor, float]:
    """Return mean and standard deviation of the next point.

    They are ``x + [v + s^2 / (2 t) (x + (1 - t) v)] dt`` and ``s |dt|^.5``, with ``s = a sqrt(t / (1 - t))``
    and ``dt < 0``.
    """
    s, dt = settings.noise * math.sqrt(level / (1 - level)), next_level - level
    drift = velocity + s**2 / (2 * level) * (x + (1 - level) * velocity)
    return x + drift * dt, s * math.sqrt(-dt)


def log_likelihood(point: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Return the log-likelihood ``[G]`` of each point, averaged over its elements, without the constant."""
    return -((point - mean) ** 2).flatten(1).mean(1) / (2 * deviation**2)


@torch.no_grad()
def sample(
    model: FlowModel, cond: Conditioning, seeds: Sequence[int], shape: Sequence[int], settings
) -> Trajectories:
    """Sample stochastic rollouts of one prompt, one per seed."""
    x = seeded_noise(seeds, shape).to(model.device)
    generator = torch.Generator().manual_seed(int(seeds[0]))
    points, likelihoods = [x], []
    levels = noise_levels(settings)
    for level, next_level in itertools.pairwise(levels):
        sigma = torch.full((len(x),), level, device=x.device)
        mean, deviation = step_mean(x, model.velocity(x, sigma, cond), level, next_level, settings)
        x = mean + deviation * torch.randn(x.shape, generator=generator).to(x.device)
        points.append(x)
        likelihoods.append(log_likelihood(x, mean, deviation))
    return Trajectories(cond, torch.stack(points), torch.stack(likelihoods))


def update(
    model: FlowModel,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    trajectories: Trajectories,
    rewards: Tensor,
    settings: FlowGRPO,
    after_step: Callable[[], None],
) -> None:
    """Take one optimiser step for every sampling step of the trajectories."""
    advantages = group_advantages(rewards).to(trajectories.points.device)
    if rewards.max() == rewards.min():
        return
    cond, levels = trajectories.cond, noise_levels(settings)
    for i, (level, next_level) in enumerate(itertools.pairwise(levels)):
        x, point = trajectories.points[i], trajectories.points[i + 1]
        sigma = torch.full((len(x),), level, device=x.device)
        with torch.no_grad(), model.reference():
            base, _ = step_mean(x, model.velocity(x, sigma, cond), level, next_level, settings)
        mean, deviation = step_mean(x, model.velocity(x, sigma, cond), level, next_level, settings)
        ratio = torch.exp(log_likelihood(point, mean, deviation) - trajectories.likelihoods[i])
        clipped = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        policy = -torch.minimum(ratio * advantages, clipped * advantages).mean()
        divergence = ((mean - base) ** 2).flatten(1).mean(1) / (2 * deviation**2)
        optimizer.zero_grad()
        (policy + settings.kl * divergence.mean()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        after_step()
