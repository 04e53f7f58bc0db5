"""Exact gradients of a group loss when not all images fit into one backward pass.

A group loss depends on all its images at once, but only through a few numbers of each, such as the
velocity error ``e_i``. By the chain rule ``dL/dw = sum_i dL/de_i * de_i/dw``: a first pass without
gradients gives all ``e_i``, the loss gives ``dL/de_i``, and a second pass over the images, some at a time,
weights their gradients with it. The gradient is that of the whole, for one more forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Measured(NamedTuple):
    """Numbers of some images, ``[..., images]``.

    Call ``backward(loss)`` instead of ``loss.backward()`` for a loss made of ``values``.
    """

    values: Tensor
    backward: Callable[[Tensor], None]


def parts(images: int, at_once: int) -> list[slice]:
    """Split the images, in order, into parts of at most ``at_once`` (1 or more)."""
    return [slice(i, min(i + at_once, images)) for i in range(0, images, at_once)]


def measure(values_of: Callable[[slice], Tensor], images: int, at_once: int) -> Measured:
    """Measure all images, at most ``at_once`` of them in a pass.

    Args:
        values_of: the numbers of a slice of images, ``[..., part]``, with gradients wherever they are
            enabled; must return the same again.
        images: how many there are.
        at_once: 1 or more.
    """
    slices = parts(images, at_once)
    if len(slices) == 1:
        return Measured(values_of(slices[0]), lambda loss: loss.backward())
    with torch.no_grad():
        values = torch.cat([values_of(part) for part in slices], dim=-1)
    values.requires_grad_(True)

    def backward(loss: Tensor) -> None:
        (weights,) = torch.autograd.grad(loss, values)
        for part in slices:
            (values_of(part) * weights[..., part]).sum().backward()

    return Measured(values, backward)
