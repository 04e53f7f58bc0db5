"""Frozen linear layers whose weights stay as they are stored and are cast only while a layer computes.

A file in fp8 then takes its own size, in main memory and on the device, not twice that. What a layer
computes is the same to the bit as with its weight cast once, since it is the same cast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LARGEST = 127
"""The largest number that ``to_int8`` stores."""


@dataclass(frozen=True)
class Stored:
    """A matrix ``[out, in]`` in the dtype of its file or in 8 bits, and what it is to be multiplied by.

    Args:
        values: of any dtype that can be cast to the one that computes.
        scale: float32, of the whole matrix (no dimension) or of equal parts of its rows ``[out, parts]``;
            None is no scale.
    """

    values: Tensor
    scale: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def split(self, rows: Sequence[int]) -> tuple[Stored, ...]:
        """Split it into matrices of so many rows each."""
        values = self.values.split(list(rows))
        if self.scale is None or self.scale.ndim == 0:
            return tuple(Stored(part, self.scale) for part in values)
        scales = self.scale.split(list(rows))
        return tuple(Stored(part, scale) for part, scale in zip(values, scales, strict=True))

    def contiguous(self) -> Stored:
        return Stored(self.values.contiguous(), self.scale)

    def to(self, device: torch.device) -> Stored:
        scale = None if self.scale is None else self.scale.to(device)
        return Stored(self.values.to(device), scale)

    def is_cast_to(self, dtype: torch.dtype) -> bool:
        """Return whether its numbers have to be converted to be of a dtype."""
        return self.scale is not None or self.values.dtype != dtype

    def cast(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix as plain numbers."""
        if self.scale is None:
            return self.values.to(dtype)
        if self.scale.ndim == 0:
            return (self.values.float() * self.scale).to(dtype)
        out, parts = self.scale.shape
        product = self.values.float().view(out, parts, -1) * self.scale[..., None]
        return product.to(dtype).view(self.shape)


class StoredLinear(nn.Linear):
    """A frozen linear layer with a ``Stored`` weight.

    It is a ``nn.Linear`` for peft and everyone else who asks; ``weight`` is a cast copy.

    Args:
        stored: the weight ``[out, in]``.
        bias: ``[out]``, or None.
        dtype: that the layer computes in.
    """

    # Set as parameters, so that they move with the module and count as its bytes.
    values: nn.Parameter
    scale: nn.Parameter | None

    def __init__(self, stored: Stored, bias: Tensor | None, dtype: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.out_features, self.in_features = stored.shape
        self.dtype = dtype
        self.values = nn.Parameter(stored.values, requires_grad=False)
        self.scale = None if stored.scale is None else nn.Parameter(stored.scale, False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, False))

    @property
    def stored(self) -> Stored:
        return Stored(self.values, self.scale)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        return self.stored.cast(self.dtype)

    def forward(self, input: Tensor) -> Tensor:
        return _Linear.apply(input, self.values, self.scale, self.bias, self.dtype)  # type: ignore[no-any-return]


class _Linear(torch.autograd.Function):
    """A linear function that keeps the stored weight for its backward pass, not the cast one."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, values: Tensor, scale: Tensor | None, bias: Tensor | None, dtype: torch.dtype
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(values, scale)
        ctx.dtype = dtype
        return F.linear(x, Stored(values, scale).cast(dtype), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        values, scale = ctx.saved_tensors
        return gradients[0] @ Stored(values, scale).cast(ctx.dtype), None, None, None, None


def to_int8(weight: Tensor) -> Stored:
    """Round a matrix to 8 bits, each row by its own largest number.

    Its error is at most half a step, ``max|row| / 254``; what the layer reads stays as it is, unlike in
    LLM.int8 (Dettmers et al., 2022), which rounds that too.
    """
    numbers = weight.float()
    scale = (
        numbers.abs().amax(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny) / _LARGEST
    )
    return Stored((numbers / scale).round().to(torch.int8), scale)


def replace(network: nn.Module, name: str, weight: Stored, dtype: torch.dtype) -> None:
    """Replace the linear layer of this name by a frozen one with a stored weight; the bias stays."""
    old = network.get_submodule(name)
    assert isinstance(old, nn.Linear)
    bias = None if old.bias is None else old.bias.detach()
    parent, _, child = name.rpartition(".")
    layer = StoredLinear(weight, bias, dtype).train(old.training)
    setattr(network.get_submodule(parent), child, layer)


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's state as if no weight of a file were stored otherwise than it is computed with.

    Weights in 8 bits, which are no file's, stay as they are.
    """
    state = network.state_dict()
    for name, module in network.named_modules():
        if isinstance(module, StoredLinear) and module.values.is_floating_point():
            state.pop(f"{name}.values")
            state.pop(f"{name}.scale", None)
            state[f"{name}.weight"] = module.weight
    return state
