"""Quantize the blocks' linear layers to 8 bits or NF4 with bitsandbytes, to train with less memory.

Only the frozen base is quantized; adapters stay float32. Embeddings, norms and the last layer keep their
dtype: they are small and sensitive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError

if TYPE_CHECKING:
    from ..progress import Progress

SHARES = {"8-bit": 0.51, "nf4": 0.29}
"""Methods, and the share of a 16-bit base's bytes that each leaves: scales lie beside the packed weights."""
QUANTIZATIONS = ("none", *SHARES)


def quantize(host: Progress, network: nn.Module, method: str, device: torch.device) -> None:
    """Replace the linear layers in a network's blocks, in place; the network stays on the CPU.

    Args:
        method: one of ``QUANTIZATIONS``.
        device: where each layer is quantized.

    Raises:
        InputError: as ``check``.
    """
    check(method, device)
    if method == "none":
        return
    linears = [
        (name, module)
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and "transformer_blocks." in name
    ]
    with torch.inference_mode(False), torch.no_grad():
        for done, (name, module) in enumerate(linears, 1):
            host.check_cancelled()
            parent, _, child = name.rpartition(".")
            # bitsandbytes packs a weight when it first moves to a device.
            layer = _layer(module, method).to(device).to("cpu")
            setattr(network.get_submodule(parent), child, layer.requires_grad_(False))
            host.progress(done, len(linears), f"quantizing to {method}")


def check(method: str, device: torch.device) -> None:
    """Raise ``InputError`` if the method is unknown, or bitsandbytes is missing or cannot use the device."""
    if method not in QUANTIZATIONS:
        raise InputError(
            "quantization", f"{method!r} is unknown", f"Choose one of: {', '.join(QUANTIZATIONS)}."
        )
    if method == "none":
        return
    if device.type not in ("cuda", "cpu", "xpu"):
        raise InputError(
            "quantization",
            f"{method} does not work on a device of type {device.type}",
            "Choose none.",
        )
    try:
        import bitsandbytes  # type: ignore  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(
            "quantization",
            f"{method} needs bitsandbytes, which cannot be used here ({error})",
            "Install it with `pip install bitsandbytes` into ComfyUI's Python, or choose none.",
        ) from error


def _layer(module: nn.Linear, method: str) -> Any:
    """Return the quantized layer of a linear one, its weight not packed yet."""
    import bitsandbytes.nn  # type: ignore

    bnb: Any = bitsandbytes.nn
    sizes = (module.in_features, module.out_features, module.bias is not None)
    weight = module.weight.data.to("cpu")  # only weights on the CPU are packed
    if method == "nf4":
        layer: Any = bnb.Linear4bit(*sizes, compute_dtype=weight.dtype, quant_type="nf4")
        layer.weight = bnb.Params4bit(weight, requires_grad=False, quant_type="nf4")
    else:
        layer = bnb.Linear8bitLt(*sizes, has_fp16_weights=False)
        layer.weight = bnb.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.bias = module.bias
    return layer
