"""LoRA on the linear layers of a ComfyUI network, without a copy of its weights and without touching them.

Nodes run in inference mode, so the weights that they load are inference tensors: autograd must not save
them. They may also be fp8, GGUF or resting in main memory, and become a matrix only while a layer runs.
Every linear layer therefore goes behind ``FrozenLinear``, which saves no weight and asks the layer for it
again in the backward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import comfy.model_management
import comfy.ops
import comfy.quant_ops
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from . import kernels


class FrozenLinear(torch.autograd.Function):
    """``forward(x)`` of a frozen linear layer, differentiable in x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor], module: nn.Module
    ) -> Tensor:
        ctx.module = module
        with torch.no_grad(), _outside_modes(module):
            return forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        with _outside_modes(ctx.module), matrix(ctx.module, grad) as weight:
            return grad @ weight, None, None


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter)


def _outside_modes(module: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Run a layer with a packed weight outside of torch's dispatch modes, as ComfyUI-GGUF's need it.

    Those make plain tensors by a constructor that fails in such a mode, and the guard against mutated
    tensors is one. A linear layer mutates none.
    """
    packed = any(p is not None and not _is_plain(p) for p in module._parameters.values())
    return _disable_current_modes() if packed else contextlib.nullcontext()


@contextlib.contextmanager
def matrix(module: nn.Module, like: Tensor) -> Iterator[Tensor]:
    """Yield a linear layer's weight ``[out, in]`` in the dtype and on the device of a tensor.

    Patches of the wire, such as LoRAs that ComfyUI applies while a layer runs, are in it.
    """
    own = getattr(module, "cast_bias_weight", None)
    if own is not None:  # packs with a storage of their own, such as GGUF, cast by a method
        yield own(like)[0]
        return
    if not hasattr(module, "weight_function"):
        yield module.weight.to(like.device, like.dtype)  # type: ignore[union-attr]
        return
    weight, bias, stream = comfy.ops.cast_bias_weight(
        module, dtype=like.dtype, device=like.device, bias_dtype=like.dtype, offloadable=True
    )
    try:
        yield _plain(weight, module, like)
    finally:
        comfy.ops.uncast_bias_weight(module, weight, bias, stream)


def _plain(weight: Tensor, module: nn.Module, like: Tensor) -> Tensor:
    """Return a cast weight as a matrix of numbers: quantised ones stay packed where dtypes agree."""
    if isinstance(weight, comfy.quant_ops.QuantizedTensor):
        weight = weight.dequantize().to(like.dtype)
    smoothing = getattr(module, "pre_quant_scale", None)  # of the input, before the matrix
    return weight if smoothing is None else weight * smoothing.to(like.device, like.dtype)


def linear_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers of a network by name, of whatever class a loader has made them."""
    return {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear)
        or (hasattr(module, "weight_function") and hasattr(module, "in_features"))
    }


class Adapters:
    """Low-rank updates of some linear layers, which can be switched off.

    Args:
        network: that is trained.
        scale: alpha / rank.
    """

    def __init__(self, network: nn.Module, scale: float) -> None:
        self.network, self.scale = network, scale
        self.enabled = True
        self.applied: set[str] = set()
        self._pairs: dict[str, tuple[Tensor, Tensor]] = {}

    @contextlib.contextmanager
    def attached(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Put the updates on within this context; on leaving, every layer is as it was.

        Args:
            tensors: ``<module>.lora_A`` ``[rank, in]`` and ``<module>.lora_B`` ``[out, rank]``.
        """
        names = {name.removesuffix(".lora_A") for name in tensors if name.endswith(".lora_A")}
        self._pairs = {n: (tensors[f"{n}.lora_A"], tensors[f"{n}.lora_B"]) for n in names}
        with contextlib.ExitStack() as stack:
            for name, module in linear_layers(self.network).items():
                stack.enter_context(replaced_forward(module, self._wrap(name, module)))
            yield

    def _wrap(self, name: str, module: nn.Module) -> Callable[..., Tensor]:
        forward = module.forward

        def frozen(x: Tensor) -> Tensor:
            if torch.is_grad_enabled() and x.requires_grad:
                return FrozenLinear.apply(x, forward, module)  # type: ignore[no-any-return]
            with _outside_modes(module):
                return forward(x)

        def adapted(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            if args or kwargs:
                raise TypeError(f"{name} is called with more than its input")
            out = frozen(x)
            if not self.enabled:
                return out
            self.applied.add(name)
            down, up = self._pairs[name]
            update = (x @ down.to(x.dtype).t()) @ up.to(x.dtype).t()
            return out + (self.scale * update).to(out.dtype)

        return adapted if name in self._pairs else frozen


@contextlib.contextmanager
def replaced_forward(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
    """Replace ``forward`` of this very module; one that it had by itself, as bypass LoRAs do, comes back."""
    own = module.__dict__.get("forward")
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        if own is None:
            del module.forward
        else:
            module.forward = own  # type: ignore[method-assign]


@contextlib.contextmanager
def saveable_weights(network: nn.Module) -> Iterator[None]:
    """Replace the weights that autograd saves by clones within this context: norms and buffers.

    Linear layers, which hold nearly all weights, are left alone: ``FrozenLinear`` saves none of theirs.
    """
    linear = {id(p) for m in linear_layers(network).values() for p in m._parameters.values()}
    restore: list[tuple[dict[str, Any], str, Any]] = []
    try:
        for module in network.modules():
            for tensors in (module._parameters, module._buffers):
                for key, tensor in tensors.items():
                    if tensor is None or id(tensor) in linear:
                        continue
                    if _is_plain(tensor) and not tensor.is_inference():
                        continue
                    restore.append((tensors, key, tensor))
                    clone = _numbers(tensor).clone()
                    tensors[key] = (
                        nn.Parameter(clone, requires_grad=False)
                        if tensors is module._parameters
                        else clone
                    )
        yield
    finally:
        for tensors, key, tensor in restore:
            tensors[key] = tensor


def _numbers(tensor: Tensor) -> Tensor:
    """Return a tensor of a pack's class, such as GGUF's, as a plain one, if it holds numbers as they are."""
    if _is_plain(tensor) or isinstance(tensor, comfy.quant_ops.QuantizedTensor):
        return tensor
    plain = tensor.as_subclass(Tensor)
    return plain if plain.is_floating_point() and plain.shape == tensor.shape else tensor


@contextlib.contextmanager
def training_mode() -> Iterator[None]:
    """Have ComfyUI's networks use differentiable kernels within this context.

    ``in_training`` is a global of the process: other work of the same process must not see it afterwards.
    Weights that a layer casts to its input's dtype come as inference tensors where they need no cast, and
    are cloned where autograd would save them.
    """
    cast, in_training = comfy.ops.cast_bias_weight, comfy.model_management.in_training

    def saveable(*args: Any, **kwargs: Any) -> Any:
        result = cast(*args, **kwargs)
        if not torch.is_grad_enabled():
            return result
        return tuple(
            part.clone() if isinstance(part, Tensor) and part.is_inference() else part
            for part in result
        )

    comfy.model_management.in_training = True
    comfy.ops.cast_bias_weight = saveable
    try:
        with kernels.differentiable():
            yield
    finally:
        comfy.ops.cast_bias_weight = cast
        comfy.model_management.in_training = in_training
