"""Torch's meta device in the role of a GPU, to test where a model's weights are without one."""

from __future__ import annotations

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

META = torch.device("meta")

_COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class MetaDevice(TorchDispatchMode):
    """Within this context the meta device behaves like a GPU, except that its tensors have no values.

    Tensors can be copied back from it, as zeros, and an operation on tensors of both devices fails.
    ``copied_bytes`` counts what was copied to it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.copied_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func not in _COPIES:
            self._check_devices(func, args, kwargs)
        elif func is torch.ops.aten._to_copy.default:
            source, target = args[0], kwargs.get("device") or args[0].device
            if source.device == META and target.type == "cpu":
                return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
            if source.device.type == "cpu" and target == META:
                self.copied_bytes += source.numel() * source.element_size()
        return func(*args, **kwargs)

    @staticmethod
    def _check_devices(func, args, kwargs) -> None:
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)]
        # As on a GPU, a scalar may stay on the CPU.
        devices = {t.device.type for t in tensors if t.ndim or t.device.type != "cpu"}
        if len(devices) > 1:
            raise RuntimeError(f"{func} got tensors on {' and '.join(sorted(devices))}")


def weight_bytes(module: torch.nn.Module) -> int:
    """Return the bytes of a module's weights on the meta device."""
    weights = [t for t in (*module.parameters(), *module.buffers()) if t.device == META]
    return sum(weight.numel() * weight.element_size() for weight in weights)
