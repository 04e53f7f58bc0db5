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
import torch
from torch import Tensor, nn

from ...gdro_comfy.models import counting
from . import kernels


class FrozenLinear(torch.autograd.Function):
    """``forward(x)`` of a frozen linear layer, differentiable in x alone."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, forward: Callable[[Tensor], Tensor], module: nn.Module
    ) -> Tensor:
        ctx.module = module
        with torch.no_grad():
            return forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,) = grads
        with matrix(ctx.module, grad) as weight:
            return grad @ weight, None, None


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
        yield weight
    finally:
        comfy.ops.uncast_bias_weight(module, weight, bias, stream)


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
                stack.enter_context(_replaced_forward(module, self._wrap(name, module)))
            yield

    def _wrap(self, name: str, module: nn.Module) -> Callable[..., Tensor]:
        forward = module.forward

        def frozen(x: Tensor) -> Tensor:
            if torch.is_grad_enabled() and x.requires_grad:
                return FrozenLinear.apply(x, forward, module)  # type: ignore[no-any-return]
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
def _replaced_forward(module: nn.Module, forward: Callable[..., Tensor]) -> Iterator[None]:
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
                    if tensor is None or id(tensor) in linear or not tensor.is_inference():
                        continue
                    restore.append((tensors, key, tensor))
                    clone = tensor.clone()
                    tensors[key] = (
                        nn.Parameter(clone, requires_grad=False)
                        if tensors is module._parameters
                        else clone
                    )
        yield
    finally:
        for tensors, key, tensor in restore:
            tensors[key] = tensor


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


class _Recompute(torch.autograd.Function):
    """A block whose activations are computed again in the backward pass.

    ComfyUI's blocks add residuals in place, so what they save may be overwritten before it is used: the
    second forward pass runs under torch's own guard, which clones a saved tensor when it is mutated.
    """

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Any], count: int, *inputs: Any) -> Any:
        ctx.run, ctx.count = run, count
        ctx.save_for_backward(*inputs[:count])
        with torch.no_grad():
            return run(*(tensor.clone() for tensor in inputs[:count]))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        inputs = [
            tensor.detach().requires_grad_(tensor.requires_grad) for tensor in ctx.saved_tensors
        ]
        with torch.enable_grad(), counting.mutation_guard():
            outputs = ctx.run(*(tensor.clone() for tensor in inputs))
            outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
            pairs = [
                (output, grad)
                for output, grad in zip(outputs, grads, strict=True)
                if grad is not None and isinstance(output, Tensor) and output.requires_grad
            ]
            torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
        return None, None, *(tensor.grad for tensor in inputs)


def blocks(network: nn.Module) -> list[nn.Module]:
    """Return the repeated blocks of a network: the members of its lists of modules."""
    return [
        block
        for module in network.children()
        if isinstance(module, nn.ModuleList)
        for block in module
        if any(True for _ in block.parameters())
    ]


@contextlib.contextmanager
def recomputed_blocks(network: nn.Module) -> Iterator[None]:
    """Recompute each block's activations in the backward pass within this context."""
    with contextlib.ExitStack() as stack:
        for block in blocks(network):
            stack.enter_context(_replaced_forward(block, _recomputing(block.forward)))
        yield


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        slots = [("arg", i) for i, a in enumerate(args) if _is_float(a)]
        slots += [("kwarg", k) for k, a in kwargs.items() if _is_float(a)]
        tensors = [args[i] if kind == "arg" else kwargs[i] for kind, i in slots]  # type: ignore[index]
        if not torch.is_grad_enabled() or not tensors:
            return forward(*args, **kwargs)
        if any(_hides_gradient(value) for value in (*args, *kwargs.values())):
            raise RuntimeError("a block takes gradients through an input that is no tensor")

        def call(*values: Tensor) -> Any:
            positional, named = list(args), dict(kwargs)
            for (kind, key), value in zip(slots, values, strict=True):
                if kind == "arg":
                    positional[key] = value  # type: ignore[index, call-overload]
                else:
                    named[key] = value  # type: ignore[index]
            return forward(*positional, **named)

        # Autograd calls the backward of a function only if an input needs a gradient; the first block's
        # inputs do not, though its adapters do.
        anchored = [
            t if t.requires_grad or i else t.detach().requires_grad_()
            for i, t in enumerate(tensors)
        ]
        return _Recompute.apply(call, len(anchored), *anchored)

    return run


def _is_float(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _hides_gradient(value: Any) -> bool:
    """Return whether a container holds a tensor that needs a gradient, which recomputing would lose."""
    if isinstance(value, (list, tuple)):
        return any(_needs_gradient(item) for item in value)
    return isinstance(value, dict) and any(_needs_gradient(item) for item in value.values())


def _needs_gradient(value: Any) -> bool:
    return value.requires_grad if isinstance(value, Tensor) else _hides_gradient(value)
