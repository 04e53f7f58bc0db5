"""Follow the bytes that tensors really take, to hold a count of them against."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Follow the bytes that are alive on the CPU, of what is allocated within this context.

    Args:
        known: tensors that are not counted.
    """

    def __init__(self, known):
        super().__init__()
        self.storages = [tensor.untyped_storage() for tensor in known]
        self.sizes, self.peak = {storage._cdata: 0 for storage in self.storages}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.sizes.pop, storage._cdata, None)
                    self.peak = max(self.peak, sum(self.sizes.values()))
        return out
