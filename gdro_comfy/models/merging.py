"""LoRA files of any common tool, merged into a network before anything else is done with it.

A layer of a file is ``up [out, rank] @ down [rank, in] * alpha / rank``. Its name is that of diffusers'
module or of the original's, with dots or (kohya's tools) underscores; a layer of the original may belong to
several modules, as its table in ``original_layouts.py`` says.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import InputError
from .base import Style
from .files import lora_title
from .original_layouts import SWAPPED, Names

if TYPE_CHECKING:
    from ..host import Host
    from .families import Family

log = logging.getLogger(__name__)

_ROLES = {
    "down": (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora.down.weight"),
    "up": (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight", ".lora.up.weight"),
    "alpha": (".alpha",),
}
_TEXT = ("lora_te", "text_encoder", "te1.", "te2.", "te3.", "clip_l.", "clip_g.", "t5xxl.")
_BEFORE = ("", "transformer.", "diffusion_model.", "model.diffusion_model.", "base_model.model.")
_BEFORE_FLAT = ("lora_unet_", "lora_transformer_")
_OTHER_KINDS = (
    ("hada_", "a LoHa"), ("lokr_", "a LoKr"), ("dora_scale", "a DoRA"), ("oft_", "an OFT"),
    ("lora_mid", "a LoCon with a middle layer"),
)  # fmt: skip


@dataclass
class _Layer:
    down: Tensor | None = None
    up: Tensor | None = None
    alpha: float | None = None

    def delta(self) -> Tensor:
        """What it adds at strength 1, float32 ``[out, in]``."""
        assert self.down is not None
        assert self.up is not None
        down, up = self.down.float().flatten(1), self.up.float().flatten(1)
        rank = len(down)
        return (rank if self.alpha is None else self.alpha) / rank * (up @ down)


def read(style: Style) -> dict[str, _Layer]:
    """The layers of a file by their names in it, without those of text encoders.

    Raises:
        InputError: it is no LoRA, or one of a kind that cannot be merged.
    """
    from safetensors import SafetensorError

    from ..data.files import read_tensors

    name = style.path.name
    try:
        tensors = read_tensors(style.path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            style.input_name, f"{name} cannot be read ({error})", "Choose a .safetensors LoRA file."
        ) from error
    for mark, kind in _OTHER_KINDS:
        if any(mark in key for key in tensors):
            raise InputError(
                style.input_name, f"{name} is {kind}, which cannot be merged here",
                "Choose a plain LoRA, or convert it to one.",
            )  # fmt: skip
    layers: dict[str, _Layer] = {}
    left_out = 0
    for key, tensor in tensors.items():
        found = _role(key)
        if key.startswith(_TEXT):
            left_out += 1
        elif found is not None:
            stem, role = found
            layer = layers.setdefault(stem, _Layer())
            setattr(layer, role, float(tensor) if role == "alpha" else tensor)
        else:
            raise InputError(
                style.input_name, f"{name} has {key!r}, which is no part of a LoRA known here",
                "Choose a plain LoRA of this model.",
            )  # fmt: skip
    whole = [layer for layer in layers.values() if layer.down is not None and layer.up is not None]
    if not whole or len(whole) < len(layers):
        raise InputError(
            style.input_name, f"{name} is no LoRA of a network, or half of one",
            "Choose a LoRA file.",
        )  # fmt: skip
    if left_out:
        log.warning("%s: its %d tensors for text encoders are left out", name, left_out)
    return layers


def _role(key: str) -> tuple[str, str] | None:
    for role, ends in _ROLES.items():
        for end in ends:
            if key.endswith(end):
                return key.removesuffix(end), role
    return None


def merge(host: Host, network: nn.Module, names: Names, family: Family, style: Style) -> None:
    """Add a LoRA to the weights of a network in place, computed in float32.

    Args:
        names: the family's table from original modules to diffusers'.

    Raises:
        InputError: the LoRA is for another family, or for a model of another size; nothing is changed.
    """
    layers = read(style)
    linears = {name: m for name, m in network.named_modules() if isinstance(m, nn.Linear)}
    known = _aliases(linears, names)
    _check(layers, known, linears, family, style)
    with torch.inference_mode(False), torch.no_grad():
        for done, (stem, layer) in enumerate(layers.items(), 1):
            host.check_cancelled()
            delta, modules = layer.delta() * style.strength, known[stem]
            if modules[0].startswith(SWAPPED):
                shift, scale = delta.chunk(2)
                delta = torch.cat([scale, shift])
            weights = [linears[name.removeprefix(SWAPPED)].weight for name in modules]
            for weight, part in zip(weights, delta.split([len(w) for w in weights]), strict=True):
                weight.copy_(weight.float() + part.to(weight.device))
            host.progress(done, len(layers), f"merging {style.path.stem}")


def _aliases(linears: Mapping[str, nn.Linear], names: Names) -> dict[str, tuple[str, ...]]:
    """What files call each module, or several modules that are one in the original."""
    modules = {
        old: new
        for old, new in names.items()
        if all(name.removeprefix(SWAPPED) in linears for name in new)
    }
    modules |= {name: (name,) for name in linears}
    known: dict[str, tuple[str, ...]] = {}
    for name, ours in modules.items():
        known |= {before + name: ours for before in _BEFORE}
        known |= {before + name.replace(".", "_"): ours for before in _BEFORE_FLAT}
    return known


def _check(
    layers: Mapping[str, _Layer],
    known: Mapping[str, Sequence[str]],
    linears: Mapping[str, nn.Linear],
    family: Family,
    style: Style,
) -> None:
    name, remedy = style.path.name, "Choose a LoRA that was made for this model."
    title = lora_title(layers)
    if title not in ("a LoRA", f"a LoRA for {family.title}"):
        raise InputError(
            style.input_name, f"{name} is {title}, this model is {family.title}", remedy
        )
    for stem, layer in layers.items():
        if stem not in known:
            continue
        assert layer.down is not None
        assert layer.up is not None
        there = (len(layer.up), layer.down.flatten(1).shape[1])
        parts = [linears[part.removeprefix(SWAPPED)] for part in known[stem]]
        here = (sum(part.out_features for part in parts), parts[0].in_features)
        if there != here:
            raise InputError(
                style.input_name,
                f"{name} was made for a model of another size ({stem} is {there[0]} x {there[1]} there, "
                f"{here[0]} x {here[1]} here)",
                remedy,
            )
    strange = [stem for stem in layers if stem not in known]
    if strange:
        raise InputError(
            style.input_name,
            f"{name} changes {len(strange)} layers that this model does not have ({strange[0]})",
            remedy,
        )
