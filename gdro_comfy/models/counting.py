"""Count the memory of a training step without doing its work: on copies whose tensors have shapes alone.

A network that is copied onto torch's meta device holds no weights and computes nothing, but allocates what
it would allocate elsewhere. ``peak_of_step`` follows each allocation through a forward and a backward pass,
which takes seconds for a network of twelve billion weights.
"""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from . import flow

if TYPE_CHECKING:
    from ..data.conditioning import Conditioning
    from .base import AdapterConfig, FlowModel

META = torch.device("meta")


def peak_of_step(
    twin: FlowModel,
    shape: tuple[int, ...],
    images: int,
    adapter: AdapterConfig,
    checkpointed: bool,
    conditioning: Conditioning,
) -> int:
    """Count the bytes of a training step beside the weights of network, adapter, optimizer and average.

    Args:
        twin: from ``FlowModel.without_values``.
        shape: of one image's latents.
        images: that go through at once, 1 or more.
        conditioning: one encoded prompt, of the length of those that will be trained on.

    Returns:
        The peak of what is live at once: activations, temporaries and the adapter's gradients.
    """
    with torch.inference_mode(False), torch.enable_grad(), twin.active():
        x = torch.empty(images, *shape, device=META)
        cond = conditioning.select([0] * images).to(META)
        with twin.adapters(adapter) as parameters, twin.checkpointed(checkpointed):
            counted = _Allocations([*parameters.values(), *_weights(twin)])
            with counted, fused_attention(), twin.graph():
                velocity = twin.velocity(x, torch.empty(images, device=META), cond)
                flow.velocity_error(velocity, torch.empty_like(x)).mean().backward()
            return counted.peak


def peak_of(work: Callable[[], object], modules: Iterable[nn.Module]) -> int:
    """Count the most bytes that are live at once in some work beside the weights of modules, all on meta."""
    known = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    with torch.no_grad(), _Allocations(known) as counted, fused_attention():
        work()
        return int(counted.peak)


def without_values(
    network: nn.Module, dtype: torch.dtype, linear: Callable[..., nn.Module] = nn.Linear
) -> Any:
    """Return a copy of a network on the meta device.

    Args:
        dtype: of the weights that stand for packed ones (bitsandbytes, GGUF), which only their own classes
            read.
        linear: class of the layers that stand for those.
    """
    memo: dict[int, Any] = {}
    for module in network.modules():
        for name, value in module._parameters.items():
            if value is None:
                continue
            if name == "weight" and _is_packed(module, value):
                memo[id(module)] = linear(
                    module.in_features, module.out_features, module.bias is not None,
                    device=META, dtype=dtype,
                ).requires_grad_(False)  # fmt: skip
            empty = torch.empty(value.shape, dtype=value.dtype, device=META)
            memo[id(value)] = nn.Parameter(empty, False)
        for value in module._buffers.values():
            if value is not None:
                memo[id(value)] = torch.empty(value.shape, dtype=value.dtype, device=META)
    return copy.deepcopy(network, memo)


def _is_packed(module: nn.Module, weight: Tensor) -> bool:
    """Return whether a linear layer's weight is not a plain matrix of its size."""
    if not hasattr(module, "in_features") or not hasattr(module, "out_features"):
        return False
    plain = type(weight) in (nn.Parameter, Tensor)
    return not plain or tuple(weight.shape) != (module.out_features, module.in_features)


def mutation_guard() -> contextlib.AbstractContextManager[None]:
    """Return torch's guard that clones saved tensors when they are mutated; ours while counting.

    Torch's own tells tensors apart by their addresses, which those on the meta device do not have.
    """
    counting = _Allocations.active
    if counting is None:
        return torch.autograd.graph.allow_mutation_on_saved_tensors()  # type: ignore[return-value]
    return counting.guard()


def _weights(twin: FlowModel) -> Iterator[Tensor]:
    for module in vars(twin).values():
        if isinstance(module, nn.Module):
            yield from module.parameters()
            yield from module.buffers()


class _Saved:
    """A tensor that autograd saved; replaced by a clone when the tensor is mutated."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class _Allocations(TorchDispatchMode):
    """Follow which storages on the meta device are alive.

    Args:
        known: tensors that are not counted.
    """

    active: _Allocations | None = None

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}
        # Kept alive, so that no address recurs.
        self._known = [tensor.untyped_storage() for tensor in known]
        self._ignored = {storage._cdata for storage in self._known}
        self._saved: dict[int, list[weakref.ref[_Saved]]] = {}

    def __enter__(self) -> Any:
        _Allocations.active = self
        return super().__enter__()

    def __exit__(self, *args: Any) -> None:
        _Allocations.active = None
        super().__exit__(*args)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._saved and func._schema.is_mutable:
            for index, argument in enumerate(func._schema.arguments):
                if argument.alias_info is not None and argument.alias_info.is_write:
                    target = args[index] if index < len(args) else kwargs.get(argument.name)
                    if isinstance(target, Tensor):
                        self._keep(target)
        out = func(*args, **kwargs)
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.device.type == "meta":
                self._count(leaf)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes or key in self._ignored:
            return
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self._saved.pop(key, None)
        self.live -= self._sizes.pop(key, 0)

    def guard(self) -> contextlib.AbstractContextManager[None]:
        """Clone what autograd saved when it is mutated, as torch's guard does."""

        def pack(tensor: Tensor) -> _Saved:
            saved = _Saved(tensor.detach())
            if tensor.device.type == "meta":
                key = tensor.untyped_storage()._cdata
                self._saved.setdefault(key, []).append(weakref.ref(saved))
            return saved

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved.tensor)  # type: ignore[return-value]

    def _keep(self, mutated: Tensor) -> None:
        clones: dict[Any, Tensor] = {}
        for reference in self._saved.pop(mutated.untyped_storage()._cdata, ()):
            saved = reference()
            if saved is None:
                continue
            view = (saved.tensor.shape, saved.tensor.stride(), saved.tensor.storage_offset())
            if view not in clones:
                clones[view] = saved.tensor.clone()
                self._count(clones[view])
            saved.tensor = clones[view]
            key = saved.tensor.untyped_storage()._cdata
            self._saved.setdefault(key, []).append(reference)


@contextlib.contextmanager
def fused_attention() -> Iterator[None]:
    """Have attention on the meta device store no scores, as on GPUs; torch would choose another kernel there.

    A mode for torch functions does not do: torch leaves it for the backward pass, in which blocks that are
    recomputed call attention again. Attention on other devices stays as it is.
    """
    original = F.scaled_dot_product_attention

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not query.is_meta:
            return original(query, key, value, *args, **kwargs)
        if key.shape[1] != query.shape[1]:  # grouped heads
            repeats = query.shape[1] // key.shape[1]
            key, value = (t.repeat_interleave(repeats, dim=1) for t in (key, value))
        return torch.ops.aten._scaled_dot_product_flash_attention(query, key, value)[0]  # type: ignore[no-any-return]

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = original
