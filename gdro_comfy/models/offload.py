"""Offloading: which components of a model are on the device, and when.

The network stays on the device as long as the model is active, text encoders and VAE only while they
work. Outside of that everything rests on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

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
        self._on_device: set[str] = set()
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
        self._move(kind, self.device)
        self._on_device.add(kind)

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
        self._move(kind, torch.device("cpu"))
        self._on_device.discard(kind)
        empty_cache(self.device)

    def _move(self, kind: str, device: torch.device) -> None:
        for module in self._components[kind]:
            # The libraries' own ``to`` refuses some quantized modules.
            nn.Module.to(module, device)

    def _fits(self, kind: str) -> bool:
        """Return whether a component fits beside what is on the device; False if that is unknown."""
        free = free_bytes(self.device)
        return free is not None and free > size_in_bytes(self._components[kind]) + _WORKSPACE


def size_in_bytes(modules: Sequence[nn.Module]) -> int:
    """Return the bytes of the modules' weights, quantized ones as they are stored."""
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
