"""Change the weights of a loaded network for good: merge LoRAs into them, then quantize them.

One layer at a time from what is stored to its final form, so that main memory never holds more than one
layer in a form between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from . import quantization
from .merging import Update
from .stored_weights import StoredLinear

if TYPE_CHECKING:
    from ..progress import Progress


def prepare(
    host: Progress,
    network: nn.Module,
    updates: Sequence[Mapping[str, Update]],
    method: str,
    device: torch.device,
) -> None:
    """Merge and quantize, in place; the network stays on the CPU.

    Args:
        updates: of each LoRA, by module, in the order in which they are merged.
        method: one of ``quantization.QUANTIZATIONS``.
        device: where each layer is quantized.

    Raises:
        InputError: a sum is not finite: the network is spoiled.
    """
    quantized = set(quantization.layers(network)) if method != "none" else set()
    changed = {name for updates_of_one in updates for name in updates_of_one}
    names = [name for name, _ in network.named_modules() if name in quantized | changed]
    words = " and ".join(
        [*(["merging"] if changed else []), *([f"quantizing to {method}"] if quantized else [])]
    )
    with torch.inference_mode(False), torch.no_grad():
        for done, name in enumerate(names, 1):
            host.check_cancelled()
            module = network.get_submodule(name)
            assert isinstance(module, (nn.Linear, nn.Conv2d))
            weight = module.weight.detach()
            for update in updates:
                if name in update:
                    weight = update[name].add_to(weight)
            if name in quantized:
                quantization.quantize(network, name, weight, method, device)
            else:
                _set(network, name, weight)
            host.progress(done, len(names), words)


def _set(network: nn.Module, name: str, weight: torch.Tensor) -> None:
    """Give a module a weight of plain numbers."""
    module = network.get_submodule(name)
    if isinstance(module, StoredLinear):
        with torch.device("meta"):
            plain = nn.Linear(module.in_features, module.out_features, module.bias is not None)
        plain.bias = module.bias
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, plain.train(module.training))
        module = plain
    assert isinstance(module, (nn.Linear, nn.Conv2d))
    module.weight = nn.Parameter(weight, requires_grad=False)
