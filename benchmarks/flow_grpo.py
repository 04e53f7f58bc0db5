"""Flow-GRPO's scheme, for comparison only: stochastic rollouts and a clipped policy ratio.

After "Flow-GRPO: Training Flow Matching Models via Online RL" (arXiv 2505.05470). The flow's ODE is
turned into an SDE with the same marginals; every step is then a Gaussian policy whose log-likelihood
of the step that was taken can be computed again with the weights of later.
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
    """Settings: ``noise`` is the paper's a, ``clip`` the ratio's range, ``kl`` the weight of the
    divergence from the base."""

    noise: float = 0.7
    clip: float = 1e-3
    kl: float = 0.01
    steps: int = 8


class Path(NamedTuple):
    """Rollouts of one prompt: ``points [steps + 1, G, ...]`` and the log-likelihoods ``[steps, G]``."""

    cond: Conditioning
    points: Tensor
    likelihoods: Tensor


def times(settings: FlowGRPO) -> list[float]:
    """Noise levels from nearly 1 (where the SDE's own noise is finite) to 0."""
    return [min(0.96, 1 - i / settings.steps) for i in range(settings.steps)] + [0.0]


def step_mean(
    x: Tensor, velocity: Tensor, now: float, following: float, settings: FlowGRPO
) -> tuple[Tensor, float]:
    """Mean and deviation of the next point: ``x + [v + s^2 / (2 t) (x + (1 - t) v)] dt``, ``s |dt|^.5``
    with ``s = a sqrt(t / (1 - t))`` and ``dt < 0``."""
    s, dt = settings.noise * math.sqrt(now / (1 - now)), following - now
    drift = velocity + s**2 / (2 * now) * (x + (1 - now) * velocity)
    return x + drift * dt, s * math.sqrt(-dt)


def log_likelihood(point: Tensor, mean: Tensor, deviation: float) -> Tensor:
    """Of each point ``[G]``, the mean over its elements, without the constant."""
    return -((point - mean) ** 2).flatten(1).mean(1) / (2 * deviation**2)


@torch.no_grad()
def sample(
    model: FlowModel, cond: Conditioning, seeds: Sequence[int], shape: Sequence[int], settings
) -> Path:
    """Stochastic rollouts, one a seed, all of one prompt."""
    x = seeded_noise(seeds, shape).to(model.device)
    generator = torch.Generator().manual_seed(int(seeds[0]))
    points, likelihoods = [x], []
    levels = times(settings)
    for now, following in itertools.pairwise(levels):
        sigma = torch.full((len(x),), now, device=x.device)
        mean, deviation = step_mean(x, model.velocity(x, sigma, cond), now, following, settings)
        x = mean + deviation * torch.randn(x.shape, generator=generator).to(x.device)
        points.append(x)
        likelihoods.append(log_likelihood(x, mean, deviation))
    return Path(cond, torch.stack(points), torch.stack(likelihoods))


def update(
    model: FlowModel,
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    path: Path,
    rewards: Tensor,
    settings: FlowGRPO,
    after: Callable[[], None],
) -> None:
    """One pass over the steps of some rollouts: an optimiser step for every sampling step."""
    advantages = group_advantages(rewards).to(path.points.device)
    if rewards.max() == rewards.min():
        return
    levels = times(settings)
    for i, (now, following) in enumerate(itertools.pairwise(levels)):
        x, point = path.points[i], path.points[i + 1]
        sigma = torch.full((len(x),), now, device=x.device)
        with torch.no_grad(), model.reference():
            base, _ = step_mean(x, model.velocity(x, sigma, path.cond), now, following, settings)
        mean, deviation = step_mean(
            x, model.velocity(x, sigma, path.cond), now, following, settings
        )
        ratio = torch.exp(log_likelihood(point, mean, deviation) - path.likelihoods[i])
        limited = ratio.clamp(1 - settings.clip, 1 + settings.clip)
        policy = -torch.minimum(ratio * advantages, limited * advantages).mean()
        divergence = ((mean - base) ** 2).flatten(1).mean(1) / (2 * deviation**2)
        optimizer.zero_grad()
        (policy + settings.kl * divergence.mean()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        after()
