"""Merge LoRA files of any common tool into the weights of a network.

A layer of a file (``data/lora_file.py``) has the name of a diffusers module or of an original one, with dots
or, as kohya's tools write it, with underscores. One original module may correspond to several diffusers
modules: see ``original_layouts.py``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..data import lora_file
from ..data.lora_file import LoRA, LoRALayer
from ..errors import InputError
from .base import LoRAFile
from .original_layouts import SWAPPED, Names
from .recognition import lora_title, other_base

if TYPE_CHECKING:
    from ..progress import Progress
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


def merge(host: Progress, network: nn.Module, names: Names, family: Family, lora: LoRAFile) -> str:
    """Add a LoRA to the weights of a network in place, computed in float32.

    Args:
        names: the family's table from original modules to diffusers'.

    Returns:
        Where the scale of its updates stands if not in the file's tensors, in words; otherwise "".

    Raises:
        InputError: the LoRA is for another family, or for a model of another size, or gives a layer twice;
            nothing was changed. Or a sum is not finite: the network is spoiled.
    """
    content = read(lora)
    layers = content.layers
    matrices = {n: m for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)}
    targets = _resolve(layers, matrices, names)
    _check(layers, targets, matrices, family, lora)
    with torch.inference_mode(False), torch.no_grad():
        for done, (layer_name, layer) in enumerate(layers.items(), 1):
            host.check_cancelled()
            update, modules = layer.update() * lora.strength, targets[layer_name]
            if modules[0].startswith(SWAPPED):
                shift, scale = update.chunk(2)
                update = torch.cat([scale, shift])
            weights = [matrices[name.removeprefix(SWAPPED)].weight for name in modules]
            for weight, rows in zip(weights, update.split([len(w) for w in weights]), strict=True):
                weight.copy_(weight.float() + rows.to(weight.device).view(weight.shape))
                if not weight.isfinite().all():
                    raise InputError(
                        lora.input_name,
                        f"with {lora.path.name}, {layer_name} is beyond the range of {weight.dtype}",
                        "Use a lower strength, or bf16 as dtype.",
                    )
            host.progress(done, len(layers), f"merging {lora.path.stem}")
    return content.scale_from


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
        weights = [matrices[m.removeprefix(SWAPPED)].weight for m in targets[layer_name]]
        rows, columns = sum(len(w) for w in weights), weights[0][0].numel()
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
