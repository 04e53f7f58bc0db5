"""A smaller base for training: the blocks' linear layers in 8 bits or in NF4, through bitsandbytes.

Only the frozen base shrinks; adapters stay float32. Embeddings, norms and the last layer, which are
small and delicate, keep their dtype.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError

if TYPE_CHECKING:
    from ..host import Host

QUANTIZATIONS = ("none", "8-bit", "nf4")


def quantize(host: Host, network: nn.Module, how: str, device: torch.device) -> None:
    """Replace the linear layers inside of a network's blocks, in place; the network stays on the CPU.

    Raises:
        InputError: ``how`` is unknown, or bitsandbytes is absent or cannot use the device.
    """
    check(how, device)
    if how == "none":
        return
    found = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "transformer_blocks." in name
    ]
    with torch.inference_mode(False), torch.no_grad():
        for done, (name, module) in enumerate(found, 1):
            host.check_cancelled()
            parent, _, child = name.rpartition(".")
            small = _layer(module, how).to(device).to("cpu")
            setattr(network.get_submodule(parent), child, small.requires_grad_(False))
            host.progress(done, len(found), f"quantizing to {how}")


def check(how: str, device: torch.device) -> None:
    """Say before any work that it cannot be done."""
    if how not in QUANTIZATIONS:
        raise InputError(
            "quantization", f"{how!r} is unknown", f"Choose one of: {', '.join(QUANTIZATIONS)}."
        )
    if how == "none":
        return
    if device.type not in ("cuda", "cpu", "xpu"):
        raise InputError(
            "quantization", f"{how} does not work on a device of type {device.type}", "Choose none."
        )
    try:
        importlib.import_module("bitsandbytes")
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            "quantization",
            f"{how} needs bitsandbytes, which cannot be used here ({error})",
            "Install it with `pip install bitsandbytes` into ComfyUI's Python, or choose none.",
        ) from error


def _layer(module: nn.Linear, how: str) -> Any:
    """The small layer; its weight is packed when it is first moved."""
    # Its modules declare no types; looked up by name, the checker says the same with it and without.
    small: Any = importlib.import_module("bitsandbytes.nn")
    sizes = (module.in_features, module.out_features, module.bias is not None)
    weight = module.weight.data.to("cpu")  # bitsandbytes packs what comes from there
    if how == "nf4":
        layer: Any = small.Linear4bit(*sizes, compute_dtype=weight.dtype, quant_type="nf4")
        layer.weight = small.Params4bit(weight, requires_grad=False, quant_type="nf4")
    else:
        layer = small.Linear8bitLt(*sizes, has_fp16_weights=False)
        layer.weight = small.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.bias = module.bias
    return layer
