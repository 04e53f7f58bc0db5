"""Merge LoRA files of any common tool into the weights of a network.

A layer of a file (``data/lora_file.py``) has the name of a diffusers module or of an original one, with dots
or, as kohya's tools write it, with underscores. One original module may correspond to several diffusers
modules: see ``original_layouts.py``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data import lora_file
from ..data.lora_file import LoRA, LoRALayer
from ..errors import InputError
from .base import LoRAFile
from .original_layouts import SWAPPED, Names
from .recognition import lora_title, other_base

if TYPE_CHECKING:
    from .families import Family

_Matrix = nn.Linear | nn.Conv2d
_FLAT_PREFIXES = ("lora_unet_", "lora_transformer_", "lycoris_")
"""What comes before the name of a layer that is written with underscores."""


def read(lora: LoRAFile) -> LoRA:
    """Read a LoRA to be merged.

    Raises:
        InputError: it is no LoRA of a family that can be trained, or of a kind that cannot be merged.
    """
    content = lora_file.load(lora.path, lora.input_name)
    title = other_base(content.base)
    if title:
        raise InputError(
            lora.input_name,
            f"{lora.path.name} is {title}, as its header says ({content.base})",
            "Choose a LoRA that was made for this model.",
        )
    return content


@dataclass(frozen=True)
class Update:
    """What one layer of a LoRA file adds to the weight of one module.

    Args:
        lora: that it is from.
        name: of the layer in the file.
        layer: its factors.
        rows: which rows of the layer belong to the module; all if the layer has this module alone.
        swapped: whether the halves of the module's rows are swapped in the file.
    """

    lora: LoRAFile
    name: str
    layer: LoRALayer
    rows: slice
    swapped: bool = False

    def add_to(self, weight: Tensor) -> Tensor:
        """Return the sum with a weight, computed in float32 and in the weight's dtype.

        Raises:
            InputError: it is not finite in that dtype.
        """
        update = self.layer.update()[self.rows] * self.lora.strength
        if self.swapped:
            shift, scale = update.chunk(2)
            update = torch.cat([scale, shift])
        total = (weight.float() + update.to(weight.device).view(weight.shape)).to(weight.dtype)
        if not total.isfinite().all():
            raise InputError(
                self.lora.input_name,
                f"with {self.lora.path.name}, {self.name} is beyond the range of {weight.dtype}",
                "Use a lower strength, or bf16 as dtype.",
            )
        return total


def plan(
    network: nn.Module, names: Names, family: Family, lora: LoRAFile
) -> tuple[dict[str, Update], str]:
    """Find what a LoRA adds to which modules of a network; nothing is changed.

    Args:
        names: the family's table from original modules to diffusers'.

    Returns:
        The updates by module; and where the scale of the LoRA's updates stands if not in the file's tensors,
        in words, otherwise "".

    Raises:
        InputError: the LoRA is for another family, or for a model of another size, or gives a layer twice.
    """
    content = read(lora)
    matrices = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    targets = _resolve(content.layers, matrices, names)
    _check(content.layers, targets, matrices, family, lora)
    updates: dict[str, Update] = {}
    for layer_name, layer in content.layers.items():
        start = 0
        for target in targets[layer_name]:
            name = target.removeprefix(SWAPPED)
            end = start + _rows(matrices[name])
            swapped = target.startswith(SWAPPED)
            updates[name] = Update(lora, layer_name, layer, slice(start, end), swapped)
            start = end
    return updates, content.scale_from


def _rows(module: _Matrix) -> int:
    return module.out_features if isinstance(module, nn.Linear) else module.out_channels


def _columns(module: _Matrix) -> int:
    if isinstance(module, nn.Linear):
        return module.in_features
    return math.prod(module.weight.shape[1:])


def _resolve(
    layers: Iterable[str], matrices: Mapping[str, _Matrix], names: Names
) -> dict[str, tuple[str, ...]]:
    """Return the modules that each layer changes, for those layers whose names are known."""
    modules = {
        original: ours
        for original, ours in names.items()
        if all(name.removeprefix(SWAPPED) in matrices for name in ours)
    }
    modules |= {name: (name,) for name in matrices}
    flat = {name.replace(".", "_"): ours for name, ours in modules.items()}
    targets: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        name = lora_file.module_name(layer)
        prefix = next((prefix for prefix in _FLAT_PREFIXES if name.startswith(prefix)), None)
        found = modules.get(name) if prefix is None else flat.get(name.removeprefix(prefix))
        if found is not None:
            targets[layer] = found
    return targets


def _check(
    layers: Mapping[str, LoRALayer],
    targets: Mapping[str, Sequence[str]],
    matrices: Mapping[str, _Matrix],
    family: Family,
    lora: LoRAFile,
) -> None:
    """Refuse a LoRA for another family or for a model of another size, and layers given twice."""
    name, remedy = lora.path.name, "Choose a LoRA that was made for this model."
    title = lora_title(layers)
    if title not in ("a LoRA", f"a LoRA for {family.title}"):
        raise InputError(
            lora.input_name, f"{name} is {title}, this model is {family.title}", remedy
        )
    changed: dict[str, str] = {}
    for layer_name, layer in layers.items():
        for module in targets.get(layer_name, ()):
            first = changed.setdefault(module.removeprefix(SWAPPED), layer_name)
            if first != layer_name:
                raise InputError(
                    lora.input_name,
                    f"{name} gives one layer twice, as {first} and as {layer_name}",
                    "Choose or export a file that has every layer once.",
                )
        if layer_name not in targets:
            continue
        modules = [matrices[m.removeprefix(SWAPPED)] for m in targets[layer_name]]
        rows, columns = sum(_rows(module) for module in modules), _columns(modules[0])
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
