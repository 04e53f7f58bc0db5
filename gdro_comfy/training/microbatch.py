"""Exact gradients of a group loss when not all images fit into one backward pass.

A group loss depends on all its images at once, but only through a few numbers each, such as the velocity
error ``e_i``. So by the chain rule ``dL/dw = sum_i dL/de_i * de_i/dw``: a first pass gives all ``e_i``
without gradients, the loss gives ``dL/de_i``, and each part of the images is run again with these as
weights. The gradient is that of the whole; it costs one forward pass more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Measured(NamedTuple):
    """Numbers of some images ``[..., images]``, and how a loss made of them reaches the weights: call
    ``backward`` with it instead of ``loss.backward()``."""

    values: Tensor
    backward: Callable[[Tensor], None]


def parts(images: int, at_once: int) -> list[slice]:
    """The images in order, at most ``at_once`` (1 or more) in a part."""
    return [slice(i, min(i + at_once, images)) for i in range(0, images, at_once)]


def measure(values_of: Callable[[slice], Tensor], images: int, at_once: int) -> Measured:
    """The numbers of all images, at most ``at_once`` of them in a pass.

    Args:
        values_of: those of the images in a slice, ``[..., part]``, with gradients where they are on. It
            has to give the same again.
        images: how many there are.
        at_once: 1 or more.
    """
    pieces = parts(images, at_once)
    if len(pieces) == 1:
        return Measured(values_of(pieces[0]), lambda loss: loss.backward())
    with torch.no_grad():
        values = torch.cat([values_of(part) for part in pieces], dim=-1)
    values.requires_grad_(True)

    def backward(loss: Tensor) -> None:
        (weights,) = torch.autograd.grad(loss, values)
        for part in pieces:
            (values_of(part) * weights[..., part]).sum().backward()

    return Measured(values, backward)
