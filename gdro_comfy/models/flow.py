"""Rectified flow: the path from clean latents to noise, and how well a model predicts its velocity.

The notation is that of the GDRO paper (arXiv 2601.02036): ``x_sigma = (1 - sigma) x0 + sigma noise``, and the
model predicts ``v = noise - x0``. All functions are pure and differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA_SAMPLERS = ("uniform", "logit-normal")
"""Distributions of the noise levels to train at."""


def interpolate(x0: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """Return ``x_sigma``, the point on the straight path from ``x0`` (sigma 0) to ``noise`` (sigma 1).

    Args:
        x0: clean latents ``[batch, ...]``.
        noise: standard normal noise of that shape, or of one that broadcasts to it.
        sigma: in [0, 1]; a number, a scalar tensor, or one value per item ``[batch]``.
    """
    sigma = torch.as_tensor(sigma, dtype=x0.dtype, device=x0.device)
    if sigma.ndim:
        sigma = sigma.reshape(-1, *(1,) * (x0.ndim - 1))
    return (1 - sigma) * x0 + sigma * noise


def target_velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """Return ``v = noise - x0``, the velocity of the path, which is the same at every sigma."""
    return noise - x0


def velocity_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the velocity error e of each item: the mean of the squared difference over its elements.

    The mean, unlike the sum, lets one beta fit every resolution.

    Args:
        prediction, target: velocities ``[batch, ...]``.

    Returns:
        ``[batch]``, computed in float64 for float64 input and in float32 otherwise.
    """
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return (prediction.to(dtype) - target.to(dtype)).pow(2).flatten(1).mean(1)


def implicit_reward(error: Tensor, reference_error: Tensor, beta: float) -> Tensor:
    """Return ``s = -beta (e - e_ref)``, positive for images that the model fits better than its reference.

    Args:
        error, reference_error: velocity errors of the same images, of any shape.
        beta: scale of the implicit reward; a larger one keeps the model closer to its reference.
    """
    return -beta * (error - reference_error)


def sample_sigma(
    count: int,
    generator: torch.Generator,
    sampler: str = "uniform",
    low: float = 0.0,
    high: float = 1.0,
    strata: int = 1,
) -> Tensor:
    """Draw noise levels to train at.

    Args:
        sampler: "uniform", as in the GDRO paper, or "logit-normal" with mean 0 and standard deviation 1,
            the common choice in flow matching.
        low, high: the range, within [0, 1]; a draw from (0, 1) is scaled to it.
        strata: of each this many draws, one comes from each equal part of the distribution, in order;
            ``count`` must be a multiple.

    Returns:
        ``[count]`` in [low, high], float32 on the generator's device.

    Raises:
        ValueError: there is no such sampler.
    """
    if sampler not in SIGMA_SAMPLERS:
        raise ValueError(f"sampler must be one of {SIGMA_SAMPLERS}, not {sampler!r}")
    if strata > 1:
        shape = (count // strata, strata)
        within = torch.rand(shape, generator=generator, device=generator.device)
        unit = ((torch.arange(strata, device=generator.device) + within) / strata).flatten()
        if sampler == "logit-normal":
            unit = torch.special.ndtri(unit).sigmoid()
    elif sampler == "uniform":
        unit = torch.rand(count, generator=generator, device=generator.device)
    else:
        unit = torch.randn(count, generator=generator, device=generator.device).sigmoid()
    return low + (high - low) * unit
