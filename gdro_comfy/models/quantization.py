"""Quantize the blocks' linear layers to 8 bits or NF4, to train with less memory.

Only the frozen base is quantized; adapters stay float32. Embeddings, norms and the last layer keep their
dtype: they are small and sensitive. 8 bits are numbers and a scale for each row (``stored_weights``), which
any device can read; NF4 is bitsandbytes'.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from . import stored_weights

SHARES = {"8-bit": 0.51, "nf4": 0.29}
"""Methods, and the share of a 16-bit base's bytes that each leaves: scales lie beside the packed weights."""
QUANTIZATIONS = ("none", *SHARES)


def layers(network: nn.Module) -> list[str]:
    """Return the names of the layers that are quantized."""
    return [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "transformer_blocks." in name
    ]


def quantize(
    network: nn.Module, name: str, weight: Tensor, method: str, device: torch.device
) -> None:
    """Replace one linear layer; the network stays on the CPU.

    Args:
        weight: ``[out, in]``, the layer's, whose dtype the new layer computes in.
        method: one of ``SHARES``.
        device: where it is quantized.
    """
    if method == "8-bit":
        rounded = stored_weights.to_int8(weight.to(device)).to(torch.device("cpu"))
        stored_weights.replace(network, name, rounded, weight.dtype)
        return
    import bitsandbytes.nn  # type: ignore

    bnb: Any = bitsandbytes.nn
    old: Any = network.get_submodule(name)
    sizes = (old.in_features, old.out_features, old.bias is not None)
    # The packed weight replaces the one that the constructor would allocate.
    with torch.device("meta"):
        layer: Any = bnb.Linear4bit(*sizes, compute_dtype=weight.dtype, quant_type="nf4")
    # bitsandbytes packs a weight when it first moves to a device, and only one from the CPU.
    layer.weight = bnb.Params4bit(weight.cpu(), requires_grad=False, quant_type="nf4")
    layer.bias = old.bias
    parent, _, child = name.rpartition(".")
    # It stays in training mode: in the other one, bitsandbytes packs again for CPUs, without a backward pass.
    setattr(network.get_submodule(parent), child, layer.to(device).to("cpu").requires_grad_(False))


def check(method: str, device: torch.device) -> None:
    """Raise ``InputError`` if the method is unknown, or bitsandbytes is missing or cannot use the device."""
    if method not in QUANTIZATIONS:
        raise InputError(
            "quantization", f"{method!r} is unknown", f"Choose one of: {', '.join(QUANTIZATIONS)}."
        )
    if method != "nf4":
        return
    if device.type not in ("cuda", "cpu", "xpu"):
        raise InputError(
            "quantization",
            f"{method} does not work on a device of type {device.type}",
            "Choose 8-bit, or none.",
        )
    try:
        import bitsandbytes  # type: ignore  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            "quantization",
            f"{method} needs bitsandbytes, which cannot be used here ({error})",
            "Install it with `pip install bitsandbytes` into ComfyUI's Python, or choose 8-bit or none.",
        ) from error
