"""What a model on the wires is: its weights, patches, text encoders and VAE, told apart by digests."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...gdro_comfy.data.files import digest

_TENSORS, _NUMBERS = 48, 2048
"""How many tensors of a network are looked at, and how many numbers of each."""

_CLIP_OPTIONS = ("tokenizer_options", "layer_idx", "use_clip_schedule")
"""What nodes such as CLIP Set Last Layer change of a CLIP without a patch."""

_known: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()


def of_wires(model: Any, clip: Any, vae: Any) -> dict[str, Any]:
    """Return the identity of MODEL, CLIP and VAE, JSON-able, the same in every process."""
    network = model.model
    return {
        "pipeline": type(network.model_config).__name__,
        "transformer": of_module(network.diffusion_model, model, "diffusion_model."),
        "dtype": str(network.get_dtype_inference()).removeprefix("torch."),
        "patches": _of_patches(model),
        "text_encoders": _of_part(clip, "cond_stage_model"),
        "vae": _of_part(vae, "first_stage_model"),
    }


def of_module(module: nn.Module, patcher: Any, prefix: str = "") -> str:
    """Return a digest of a fixed sample of a network's weights, of their names, shapes and dtypes.

    Args:
        patcher: that holds the network; while patches such as LoRAs are merged into its weights, it keeps the
            weights of before.
        prefix: what precedes the network's names there.
    """
    if module not in _known:
        weights = module.state_dict()
        for key, kept in getattr(patcher, "backup", {}).items():
            if key.startswith(prefix):
                weights[key.removeprefix(prefix)] = kept.weight
        _known[module] = _of_tensors(weights.items())
    return _known[module]


def _of_part(part: Any, attribute: str) -> Any:
    """Digest a CLIP or VAE; one that presents a model of the engine has an identity already."""
    module = getattr(part, attribute, None)
    if isinstance(module, nn.Module):
        patcher = getattr(part, "patcher", None)
        options = [getattr(part, name, None) for name in _CLIP_OPTIONS]
        return [
            of_module(module, patcher),
            _of_patches(patcher) if patcher is not None else "",
            digest(options) if any(options) else "",
        ]
    return getattr(part, "identity", type(part).__name__)


def _of_tensors(named: Iterable[tuple[str, Any]]) -> str:
    entries = sorted((name, t) for name, t in named if isinstance(t, Tensor))
    summary = hashlib.sha256()
    for name, tensor in entries:
        summary.update(f"{name} {list(tensor.shape)} {tensor.dtype}\n".encode())
    step = max(1, len(entries) // _TENSORS)
    for _, tensor in entries[::step]:
        summary.update(_bytes(tensor))
    return summary.hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    """Return the first numbers of a tensor as they are stored; empty where its storage is not at hand."""
    with torch.no_grad():
        try:
            flat = tensor.detach().reshape(-1)[:_NUMBERS].contiguous().cpu()
            return flat.view(torch.uint8).numpy().tobytes()
        except (RuntimeError, NotImplementedError, TypeError):
            return b""


def _of_patches(patcher: Any) -> str:
    """Digest what was put onto a model on its way: LoRAs, sampling settings, guidance functions."""
    entries: list[Any] = []
    for key, patches in sorted(patcher.patches.items(), key=lambda item: str(item[0])):
        for strength, weights, base_strength, *_ in patches:
            entries.append([str(key), strength, base_strength, _of_adapter(weights)])
    for name, patch in sorted(patcher.object_patches.items()):
        entries.append([name, _of_object(patch)])
    for name, option in sorted(patcher.model_options.items(), key=lambda item: str(item[0])):
        if name != "transformer_options":
            entries.append([str(name), _of_object(option)])
    return digest(entries) if entries else ""


def _of_adapter(weights: Any) -> str:
    """Digest the tensors of one patch, whichever class or tuple holds them."""
    found: list[tuple[str, Tensor]] = []

    def walk(value: Any, name: str) -> None:
        if isinstance(value, Tensor):
            found.append((name, value))
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                walk(item, f"{name}.{i}")
        elif hasattr(value, "weights"):
            walk(value.weights, name)

    walk(weights, type(weights).__name__)
    return _of_tensors(found)


def _of_object(value: Any) -> Any:
    """Describe an object by its class and its plain attributes; a function by its name and closure."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [_of_object(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _of_object(item) for key, item in sorted(value.items(), key=str)}
    if isinstance(value, Tensor):
        return _of_tensors([("value", value)])
    if inspect.isfunction(value):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        plain = [c for c in cells if isinstance(c, (bool, int, float, str))]
        return [value.__qualname__, plain]
    plain = {
        key: item for key, item in vars(value).items() if isinstance(item, (bool, int, float, str))
    } if hasattr(value, "__dict__") else {}  # fmt: skip
    buffers = _of_tensors(value.named_buffers()) if isinstance(value, nn.Module) else ""
    return [type(value).__qualname__, dict(sorted(plain.items())), buffers]
