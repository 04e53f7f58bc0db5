"""Rectified flow: the path from clean latents to noise, and how well a model predicts its velocity.

Notation of the GDRO paper (arXiv 2601.02036): ``x_sigma = (1 - sigma) x0 + sigma noise``; the model
predicts ``v = noise - x0``. All functions are pure and keep autograd.
"""

from __future__ import annotations

import torch
from torch import Tensor

SIGMA_SAMPLERS = ("uniform", "logit-normal")


def _per_item(sigma: Tensor, like: Tensor) -> Tensor:
    """A scalar or [batch] sigma, shaped to multiply [batch, ...]."""
    return sigma if sigma.ndim == 0 else sigma.reshape(-1, *(1,) * (like.ndim - 1))


def interpolate(x0: Tensor, noise: Tensor, sigma: Tensor | float) -> Tensor:
    """The point at ``sigma`` on the straight path from ``x0`` (sigma 0) to ``noise`` (sigma 1).

    Args:
        x0: clean latents ``[batch, ...]``.
        noise: standard normal noise of the same shape (or one that broadcasts to it).
        sigma: in [0, 1]; a number, a scalar tensor, or one value per item ``[batch]``.
    """
    s = _per_item(torch.as_tensor(sigma, dtype=x0.dtype, device=x0.device), x0)
    return (1 - s) * x0 + s * noise


def target_velocity(x0: Tensor, noise: Tensor) -> Tensor:
    """The velocity of the path, ``noise - x0``; the same at every sigma."""
    return noise - x0


def velocity_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of each item over all its elements, at least in float32.

    The mean (not the sum) makes one beta fit every resolution.

    Args:
        prediction, target: ``[batch, ...]``.

    Returns:
        ``[batch]``, float64 for float64 input, otherwise float32.
    """
    dtype = torch.promote_types(torch.promote_types(prediction.dtype, target.dtype), torch.float32)
    return (prediction.to(dtype) - target.to(dtype)).pow(2).flatten(1).mean(1)


def implicit_reward(error: Tensor, reference_error: Tensor, beta: float) -> Tensor:
    """``s = -beta (e - e_ref)``: positive where the model fits an image better than its reference."""
    return -beta * (error - reference_error)


def sample_sigma(
    count: int,
    generator: torch.Generator,
    sampler: str = "uniform",
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """Noise levels to train at, float32 ``[count]`` in [low, high], drawn on the generator's device.

    Args:
        sampler: "uniform" (the GDRO paper) or "logit-normal" (mean 0, deviation 1, as in SD3).
    """
    if sampler not in SIGMA_SAMPLERS:
        raise ValueError(f"sampler must be one of {SIGMA_SAMPLERS}, not {sampler!r}")
    if sampler == "uniform":
        unit = torch.rand(count, generator=generator, device=generator.device)
    else:
        unit = torch.randn(count, generator=generator, device=generator.device).sigmoid()
    return low + (high - low) * unit
