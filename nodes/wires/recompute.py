"""Blocks of a ComfyUI network whose activations are computed again in the backward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from ...gdro_comfy.models import counting
from .adapters import replaced_forward


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
            stack.enter_context(replaced_forward(block, _recomputing(block.forward)))
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
