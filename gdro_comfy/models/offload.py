"""Offloading: which components of a model are on the device, and when.

The network stays on the device as long as the model is active, text encoders and VAE only while they
work. Outside of that everything rests on the CPU. Frozen weights keep their copy there, so that leaving the
device is a release and no transfer, and a weight that lies in a mapped file stays there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .device_memory import empty_cache, free_bytes

NETWORK, ENCODERS, VAE = "network", "encoders", "vae"
"""The kinds of components."""

_WORKSPACE = 2 << 30
"""Bytes to leave free for the activations of a component."""


class Offloader:
    """Moves the components of one model between the CPU and the device.

    Args:
        components: modules by kind: ``NETWORK``, ``ENCODERS`` and ``VAE``.
        device: where to compute; if that is the CPU, nothing moves.
    """

    def __init__(self, components: Mapping[str, Sequence[nn.Module]], device: torch.device) -> None:
        self.device = device
        self._components = components
        self._on_device: dict[str, list[_Resting]] = {}
        """The components on the device, with what rests on the CPU."""
        self._depth = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Allow components onto the device; offload them all when the outermost context ends."""
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self.release()

    def onload(self, kind: str) -> None:
        """Move a component to the device, where it stays until ``active`` ends.

        Outside of ``active`` nothing moves.
        """
        if self.device.type == "cpu" or not self._depth or kind in self._on_device:
            return
        resting: list[_Resting] = []
        self._on_device[kind] = resting
        moved: dict[int, nn.Parameter] = {}
        try:
            for module in self._components[kind]:
                for part in module.modules():
                    resting.append(_Resting(part))
                    _move_frozen(part, self.device, moved)
                nn.Module.to(module, self.device)
        except BaseException:
            # Out of memory halfway: what is there in part would count as being there.
            self._offload(kind)
            raise

    def is_on_device(self, kind: str) -> bool:
        """Return whether a component is on the device."""
        return kind in self._on_device

    @contextmanager
    def onloaded(self, kind: str) -> Iterator[None]:
        """Keep a component on the device within this context.

        If the device is too small for both, the network is offloaded first; it returns when it is next
        needed.
        """
        already = kind in self._on_device
        if not already and NETWORK in self._on_device and not self._fits(kind):
            self._offload(NETWORK)
        self.onload(kind)
        try:
            yield
        finally:
            if not already and kind in self._on_device:
                self._offload(kind)

    def release(self) -> None:
        """Offload everything; components return when they are next needed."""
        for kind in tuple(self._on_device):
            self._offload(kind)

    def _offload(self, kind: str) -> None:
        for resting in self._on_device.pop(kind):
            resting.put_back()
        for module in self._components[kind]:
            # An adapter has no copy that rests: it has been trained.
            nn.Module.to(module, "cpu")
        empty_cache(self.device)

    def _fits(self, kind: str) -> bool:
        """Return whether a component fits beside what is on the device; False if that is unknown."""
        free = free_bytes(self.device)
        return free is not None and free > size_in_bytes(self._components[kind]) + _WORKSPACE


class _Resting:
    """The frozen tensors of one module, its own only, on the CPU."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._parameters = {
            name: parameter
            for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False)
            if not parameter.requires_grad
        }
        self._buffers = dict(module.named_buffers(recurse=False, remove_duplicate=False))

    def put_back(self) -> None:
        self._module._parameters.update(self._parameters)
        self._module._buffers.update(self._buffers)


def _move_frozen(module: nn.Module, device: torch.device, moved: dict[int, nn.Parameter]) -> None:
    """Give a module copies of its own frozen parameters on a device; the originals stay as they are.

    Args:
        moved: copies by the id of their original, for those that modules share.
    """
    own = module.named_parameters(recurse=False, remove_duplicate=False)
    for name, parameter in list(own):
        if parameter.requires_grad:
            continue
        if id(parameter) not in moved:
            moved[id(parameter)] = _copy_on(parameter, device)
        module._parameters[name] = moved[id(parameter)]


def _copy_on(parameter: nn.Parameter, device: torch.device) -> nn.Parameter:
    """Return a copy of a frozen parameter on a device."""
    state: Any = getattr(parameter, "quant_state", None)
    if state is None:
        return nn.Parameter(parameter.data.to(device), requires_grad=False)
    # bitsandbytes moves the tensors beside a packed weight in place: the copy gets its own.
    twin: Any = copy.copy(parameter)
    twin.quant_state = copy.copy(state)
    if state.state2 is not None:
        twin.quant_state.state2 = copy.copy(state.state2)
    return twin.to(device)


def size_in_bytes(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of the modules' weights, quantized ones as they are stored, with their scales."""
    tensors = [t for module in modules for t in (*module.parameters(), *module.buffers())]
    states = [getattr(tensor, "quant_state", None) for tensor in tensors]
    tensors += [t for state in states if state is not None for t in _tensors(state)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _tensors(state: Any) -> list[torch.Tensor]:
    """Return the tensors of bitsandbytes' state of a packed weight."""
    nested = [] if state.state2 is None else _tensors(state.state2)
    return [t for t in (state.absmax, state.code, state.offset) if t is not None] + nested
