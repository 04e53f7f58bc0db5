"""The engine's path from an image to noise, in the scale that a model of ComfyUI samples in."""

from __future__ import annotations

from typing import Any

import comfy.model_sampling
import torch
from torch import Tensor


def to_model(sampling: Any, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return latents and noise levels as a model takes them, and the levels that they stand for.

    Most models take ``x = (1 - sigma) x0 + sigma noise`` itself. Cosmos-Predict2 takes ``x / (1 - sigma)``
    with the noise level ``sigma / (1 - sigma)``, which has a maximum: a higher sigma is taken for the one
    there.

    Args:
        sampling: a MODEL's ``model_sampling``.
        x: latents on the path ``[batch, ...]``.
        sigma: in [0, 1] ``[batch]``.

    Returns:
        Latents and levels for ``apply_model``, and levels in [0, 1] for the velocity
        ``(x - x0) / sigma``.
    """
    if not isinstance(sampling, comfy.model_sampling.COSMOS_RFLOW):
        return x, sigma, sigma
    sigma = torch.clamp(sigma, max=highest(sampling))
    share = (1 - sigma).reshape(-1, *(1,) * (x.ndim - 1))
    return x / share, sigma / (1 - sigma), sigma


def highest(sampling: Any) -> float:
    """Return the level in [0, 1] of the noise that sampling starts from."""
    top = float(sampling.sigma_max)
    return top / (1 + top) if isinstance(sampling, comfy.model_sampling.COSMOS_RFLOW) else 1.0
