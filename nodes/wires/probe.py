"""Find layers that gradients cannot pass through, before any work and without running the network.

The backward pass multiplies with a layer's weight as a matrix (``adapters.FrozenLinear``). Loaders store
weights in many ways, and a matrix that is not what the layer computes would train on wrong gradients without
a word. So one layer of each way of storing is given unit vectors, and its answers are held against the
columns of its matrix.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn

from ...gdro_comfy.errors import InputError
from .adapters import linear_layers, matrix

log = logging.getLogger(__name__)

_COLUMNS = 8
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_TOLERANCE = 0.15
"""Relative. Layers that round their input to 4 or 8 bits may be off by 1/16; a matrix without its scale,
rotation or packing is off by about 1 or more."""
_REMEDY = "Load the model as bf16, fp8, int8 or GGUF, in ComfyUI's own loaders or ComfyUI-GGUF's."


def check_gradients(network: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``InputError`` if a linear layer cannot be used in a backward pass, naming it.

    Takes seconds at any size: it moves at most one layer to the device at a time.

    Args:
        dtype: that the network computes in.
        device: that it runs on.
    """
    layers = linear_layers(network)
    for name, module in network.named_modules():
        if name not in layers and _looks_linear(module):
            raise _refused(name, module, "it is a linear layer whose weight cannot be read")
    seen: set[Hashable] = set()
    for name, module in layers.items():
        if _is_comfyuis(module) and _is_plain(module.weight):
            continue
        kind = _kind(module)
        if kind not in seen:
            seen.add(kind)
            check_layer(name, module, dtype, device)


def _looks_linear(module: nn.Module) -> bool:
    """Return whether a module maps features to features with weights of its own."""
    return (
        isinstance(getattr(module, "in_features", None), int)
        and isinstance(getattr(module, "out_features", None), int)
        and any(True for _ in module.parameters(recurse=False))
    )


def _is_comfyuis(module: nn.Module) -> bool:
    """Return whether a layer is of a class of ComfyUI's, and nobody has replaced what it computes."""
    return type(module).__module__ == "comfy.ops" and "forward" not in module.__dict__


def _is_plain(weight: Any) -> bool:
    """Return whether a weight holds numbers as they are, fp8 included, or is missing in the file."""
    return weight is None or (
        type(weight) in (Tensor, nn.Parameter) and weight.dtype.is_floating_point
    )


def _kind(module: nn.Module) -> Hashable:
    """Return what layers have in common that store their weights in the same way."""
    weight: Any = getattr(module, "weight", None)
    parameters = getattr(weight, "_params", None)  # of ComfyUI's quantised tensors
    flags = {
        key: value
        for key, value in getattr(parameters, "__dict__", {}).items()
        if isinstance(value, (bool, int, str))
    }
    return (
        type(module),
        type(weight),
        getattr(weight, "dtype", None),
        getattr(weight, "_layout_cls", None),
        str(getattr(weight, "tensor_type", None)),  # of ComfyUI-GGUF's tensors
        tuple(sorted(flags.items())),
        getattr(module, "pre_quant_scale", None) is not None,
        bool(getattr(module, "weight_function", ())),
        "forward" in module.__dict__,
    )


def check_layer(name: str, module: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ``InputError`` unless a linear layer computes what its weight says as a matrix."""
    weight: Any = getattr(module, "weight", None)
    if weight is None:
        raise _refused(name, module, "it has no weight")
    place = device
    if not _moves_its_weight(module):
        place = weight.device
        dtype = weight.dtype if weight.dtype in _FLOATS else dtype
    if place.type == "meta":
        return
    try:
        error = _largest_error(module, dtype, place)
    except comfy.model_management.OOM_EXCEPTION:
        raise
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as problem:
        first = (str(problem).splitlines() or [type(problem).__name__])[0].rstrip(". ")
        if _is_comfyuis(module):  # it would fail as loudly later, and may work in a loaded model
            log.warning("layer %s could not be tried before the work: %s", name, first)
            return
        raise _refused(
            name, module, f"its weight does not multiply as a matrix: {first}"
        ) from problem
    if not error <= _TOLERANCE:
        raise _refused(
            name,
            module,
            f"its weight, read as a matrix, is not what it computes (off by {error:.0%})",
        )


def _moves_its_weight(module: nn.Module) -> bool:
    """Return whether a layer casts its weight to where its input is."""
    return bool(
        getattr(module, "comfy_cast_weights", False)
        or hasattr(module, "cast_bias_weight")
        or getattr(module, "layout_type", None) is not None
        or getattr(module, "weight_function", ())
    )


@torch.inference_mode()
def _largest_error(module: nn.Module, dtype: torch.dtype, device: torch.device) -> float:
    """Return how far a layer's answers to unit vectors are from the columns of its matrix, relatively."""
    columns = int(module.in_features)  # type: ignore[arg-type]
    chosen = torch.linspace(0, columns - 1, min(_COLUMNS, columns)).long().to(device)
    units = torch.zeros(len(chosen) + 1, columns, dtype=dtype, device=device)
    units[torch.arange(len(chosen), device=device), chosen] = 1
    *answers, offset = module.forward(units).float()
    with matrix(module, units) as weight:
        shape = (int(module.out_features), columns)  # type: ignore[arg-type]
        if tuple(weight.shape) != shape:
            raise ValueError(f"a matrix of {shape} was expected, not of {tuple(weight.shape)}")
        expected = (units[:-1].float() @ weight.float().t()).clone()
    found = torch.stack(answers) - offset
    # The offset, the bias, is rounded along with each answer.
    rounding = 4 * torch.finfo(dtype).eps * _norm(offset)
    excess = (_norm(found - expected) - rounding).clamp(min=0)
    return float((excess / _norm(expected).clamp(min=1e-12)).max())


def _norm(rows: Tensor) -> Tensor:
    return rows.norm(dim=-1)


def _refused(name: str, module: nn.Module, why: str) -> InputError:
    weight: Any = getattr(module, "weight", None)
    stored = getattr(weight, "_layout_cls", None) or getattr(weight, "dtype", None)
    kind = type(module).__qualname__.rpartition("<locals>.")[2]
    kind += f", {str(stored).removeprefix('torch.')}" if stored else ""
    return InputError(
        "model", f"gradients cannot pass through its layer {name} ({kind}): {why}", _REMEDY
    )
