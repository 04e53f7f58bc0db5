"""Merge LoRA files of any common tool into the weights of a network.

A layer of a file adds ``alpha / rank * up @ down`` to a weight: ``up`` is ``[out, rank]``, ``down`` is
``[rank, in]``. It has the name of a diffusers module or of an original one, with dots or, as kohya's tools
write it, with underscores. One original module may correspond to several diffusers modules: see
``original_layouts.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InputError
from .base import LoRAFile
from .original_layouts import SWAPPED, Names
from .recognition import lora_title

if TYPE_CHECKING:
    from ..progress import Progress
    from .families import Family

log = logging.getLogger(__name__)

_SUFFIXES = {
    "down": (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora.down.weight"),
    "up": (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight", ".lora.up.weight"),
    "alpha": (".alpha",),
}
"""What the tensors of a layer end with, by field of ``_Layer``."""
_TEXT_ENCODERS = (
    "lora_te", "text_encoder", "te1.", "te2.", "te3.", "clip_l.", "clip_g.", "t5xxl.",
)  # fmt: skip
"""What the layers of text encoders start with."""
_PREFIXES = ("", "transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model.")
_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_")
"""What comes before the name of a layer: with dots, and with underscores."""
_OTHER_KINDS = (
    ("hada_", "a LoHa"), ("lokr_", "a LoKr"), ("dora_scale", "a DoRA"), ("oft_", "an OFT"),
    ("lora_mid", "a LoCon with a middle layer"),
)  # fmt: skip
"""Parts of names that only other kinds of adapters have."""


@dataclass
class _Layer:
    """A layer of a LoRA file, filled in while the file is read."""

    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(out, in) of its update."""
        down, up = self._matrices()
        return len(up), down.shape[1]

    def update(self) -> Tensor:
        """Return its update at strength 1, float32 ``[out, in]``."""
        down, up = self._matrices()
        rank = len(down)
        return (rank if self.alpha is None else self.alpha) / rank * (up.float() @ down.float())

    def _matrices(self) -> tuple[Tensor, Tensor]:
        """Return down and up; some tools store them as 1 x 1 convolutions."""
        assert self.down is not None
        assert self.up is not None
        return self.down.flatten(1), self.up.flatten(1)


def read(lora: LoRAFile) -> dict[str, _Layer]:
    """Read the layers of a LoRA by their names in the file, without those of text encoders.

    Raises:
        InputError: it is not a LoRA, or of a kind that cannot be merged.
    """
    from safetensors import SafetensorError

    from ..data.files import read_tensors

    name = lora.path.name
    try:
        tensors = read_tensors(lora.path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            lora.input_name, f"{name} cannot be read ({error})", "Choose a .safetensors LoRA file."
        ) from error
    for mark, kind in _OTHER_KINDS:
        if any(mark in key for key in tensors):
            raise InputError(
                lora.input_name, f"{name} is {kind}, which cannot be merged here",
                "Choose a plain LoRA, or convert it to one.",
            )  # fmt: skip
    layers: dict[str, _Layer] = {}
    left_out = 0
    for key, tensor in tensors.items():
        layer_name, field = _split(key)
        if key.startswith(_TEXT_ENCODERS):
            left_out += 1
        elif field:
            layer = layers.setdefault(layer_name, _Layer())
            setattr(layer, field, float(tensor) if field == "alpha" else tensor)
        else:
            raise InputError(
                lora.input_name, f"{name} contains {key!r}, which does not belong to a plain LoRA",
                "Choose a plain LoRA of this model.",
            )  # fmt: skip
    if not layers or any(layer.down is None or layer.up is None for layer in layers.values()):
        raise InputError(
            lora.input_name, f"{name} is not a LoRA for an image model, or its layers are incomplete",
            "Choose a LoRA file.",
        )  # fmt: skip
    if left_out:
        log.warning("%s: its %d tensors for text encoders are left out", name, left_out)
    return layers


def _split(key: str) -> tuple[str, str]:
    """Split the name of a tensor into that of its layer and the field of ``_Layer``, if it is one."""
    for field, suffixes in _SUFFIXES.items():
        for suffix in suffixes:
            if key.endswith(suffix):
                return key.removesuffix(suffix), field
    return key, ""


def merge(host: Progress, network: nn.Module, names: Names, family: Family, lora: LoRAFile) -> None:
    """Add a LoRA to the weights of a network in place, computed in float32.

    Args:
        names: the family's table from original modules to diffusers'.

    Raises:
        InputError: the LoRA is for another family, or for a model of another size; nothing was changed.
    """
    layers = read(lora)
    linears = {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}
    targets = _targets(linears, names)
    _check(layers, targets, linears, family, lora)
    with torch.inference_mode(False), torch.no_grad():
        for done, (layer_name, layer) in enumerate(layers.items(), 1):
            host.check_cancelled()
            update, modules = layer.update() * lora.strength, targets[layer_name]
            if modules[0].startswith(SWAPPED):
                shift, scale = update.chunk(2)
                update = torch.cat([scale, shift])
            weights = [linears[name.removeprefix(SWAPPED)].weight for name in modules]
            for weight, rows in zip(weights, update.split([len(w) for w in weights]), strict=True):
                weight.copy_(weight.float() + rows.to(weight.device))
            host.progress(done, len(layers), f"merging {lora.path.stem}")


def _targets(linears: Mapping[str, nn.Linear], names: Names) -> dict[str, tuple[str, ...]]:
    """Return the modules that a layer changes, by every name that a file may give the layer."""
    modules = {
        original: ours
        for original, ours in names.items()
        if all(name.removeprefix(SWAPPED) in linears for name in ours)
    }
    modules |= {name: (name,) for name in linears}
    targets: dict[str, tuple[str, ...]] = {}
    for name, ours in modules.items():
        targets |= {prefix + name: ours for prefix in _PREFIXES}
        targets |= {prefix + name.replace(".", "_"): ours for prefix in _FLAT_PREFIXES}
    return targets


def _check(
    layers: Mapping[str, _Layer],
    targets: Mapping[str, Sequence[str]],
    linears: Mapping[str, nn.Linear],
    family: Family,
    lora: LoRAFile,
) -> None:
    """Refuse a LoRA for another family or for a model of another size."""
    name, remedy = lora.path.name, "Choose a LoRA that was made for this model."
    title = lora_title(layers)
    if title not in ("a LoRA", f"a LoRA for {family.title}"):
        raise InputError(
            lora.input_name, f"{name} is {title}, this model is {family.title}", remedy
        )
    for layer_name, layer in layers.items():
        if layer_name not in targets:
            continue
        modules = [linears[module.removeprefix(SWAPPED)] for module in targets[layer_name]]
        rows, columns = sum(m.out_features for m in modules), modules[0].in_features
        if layer.shape != (rows, columns):
            raise InputError(
                lora.input_name,
                f"{name} was made for a model of another size ({layer_name} is {layer.shape[0]} x "
                f"{layer.shape[1]} there, {rows} x {columns} here)",
                remedy,
            )
    unknown = [layer_name for layer_name in layers if layer_name not in targets]
    if unknown:
        raise InputError(
            lora.input_name,
            f"{name} changes {len(unknown)} layers that this model does not have ({unknown[0]})",
            remedy,
        )
