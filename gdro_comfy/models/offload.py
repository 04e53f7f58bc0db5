"""Which parts of a model lie on the device, and when: text encoders and VAE only while they work."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

NETWORK, ENCODERS, VAE = "network", "encoders", "vae"


class Places:
    """The parts of one model, moved between the CPU and the device.

    Args:
        parts: modules by kind: ``NETWORK``, ``ENCODERS`` and ``VAE``.
        device: where to compute; a CPU moves nothing.
    """

    def __init__(self, parts: Mapping[str, list[nn.Module]], device: torch.device) -> None:
        self.device = device
        self._parts = parts
        self._there: set[str] = set()
        self._users = 0

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within this context parts may be on the device; on leaving, all rest on the CPU."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0:
                for kind in tuple(self._there):
                    self._leave(kind)

    def bring(self, kind: str) -> None:
        """Put a part on the device, where it stays until the model is active no more."""
        if self.device.type == "cpu" or not self._users or kind in self._there:
            return
        for module in self._parts[kind]:
            nn.Module.to(module, self.device)
        self._there.add(kind)

    @contextmanager
    def using(self, kind: str) -> Iterator[None]:
        """Within this context a part is on the device. The network makes room where there is not
        enough for both; it comes back when it is next needed."""
        inside = kind in self._there
        if not inside and NETWORK in self._there and not self._room(kind):
            self._leave(NETWORK)
        self.bring(kind)
        try:
            yield
        finally:
            if not inside and kind in self._there:
                self._leave(kind)

    def _leave(self, kind: str) -> None:
        for module in self._parts[kind]:
            nn.Module.to(module, "cpu")
        self._there.discard(kind)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _room(self, kind: str) -> bool:
        """Whether the device has room for a part beside what is on it, with some for its work."""
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        held = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return free + held > size_in_bytes(self._parts[kind]) + (2 << 30)


def size_in_bytes(modules: list[nn.Module]) -> int:
    """Bytes of the weights of some modules, quantised ones as they are stored."""
    return sum(p.numel() * p.element_size() for module in modules for p in module.parameters())
