"""Exact gradients of a group loss when not all images fit into one backward pass.

A group loss depends on all its images at once, but only through one number each, the velocity error
``e_i``. So by the chain rule ``dL/dw = sum_i dL/de_i * de_i/dw``: a first pass gives all ``e_i`` without
gradients, the loss gives ``dL/de_i``, and each part of the images is run again with these as weights.
The gradient is that of the whole; it costs one forward pass more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Measured(NamedTuple):
    """Errors of some images, and how a loss made of them reaches the weights: call ``backward`` with
    it instead of ``loss.backward()``."""

    errors: Tensor
    reference: Tensor
    backward: Callable[[Tensor], None]


def measure(
    errors_of: Callable[[slice], Tensor],
    reference_of: Callable[[slice], Tensor],
    images: int,
    at_once: int,
) -> Measured:
    """Velocity errors ``[images]`` of adapter and reference, at most ``at_once`` images in a pass.

    Args:
        errors_of: the adapter's errors of the images in a slice, with gradients where they are on. It
            has to give the same again.
        reference_of: the reference's, without gradients.
        images: how many there are.
        at_once: 1 or more.
    """
    parts = [slice(i, min(i + at_once, images)) for i in range(0, images, at_once)]
    reference = torch.cat([reference_of(part) for part in parts])
    if len(parts) == 1:
        return Measured(errors_of(parts[0]), reference, lambda loss: loss.backward())
    with torch.no_grad():
        errors = torch.cat([errors_of(part) for part in parts])
    errors.requires_grad_(True)

    def backward(loss: Tensor) -> None:
        (weights,) = torch.autograd.grad(loss, errors)
        for part in parts:
            (errors_of(part) * weights[part]).sum().backward()

    return Measured(errors, reference, backward)
