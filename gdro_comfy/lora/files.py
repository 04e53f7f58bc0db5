"""LoRA files in keys that other programs read.

A model of diffusers has ``transformer.<module>.lora_A.weight`` ``[rank, in]`` and ``.lora_B.weight``
``[out, rank]``, which ComfyUI and diffusers both read. A model of ComfyUI's wires has
``diffusion_model.<module>.lora_A.weight`` and ``.lora_B.weight``, which ComfyUI reads for every family.
The scale is in B, and no alpha is written: without one every program takes scale 1, while diffusers refuses a
file for SD3 with a tensor ``.alpha``. Files with ``.alpha``, as older versions wrote them, are read as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..data import lora_file
from ..data.identity import difference, same_network
from ..data.lora_weights import LoRAWeights
from ..data.safetensors_files import UnreadableFile, read
from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.aligned import AlignedLoRA
    from ..models.base import FlowModel

_PREFIXES = ("transformer.", "diffusion_model.")
_SUFFIXES = ((".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight"))
"""What precedes and what follows a module's name, for the factors A and B; the first suffixes are written."""

BUNDLED = {
    "bundled: signs (tiny SD3)": Path(__file__).parent.parent
    / "assets"
    / "loras"
    / "tiny_sd3_signs.safetensors"
}
"""LoRAs of the bundled model, by the name shown to users."""


def to_file_keys(weights: LoRAWeights, prefix: str = "transformer.") -> dict[str, Tensor]:
    """Return the tensors of a LoRA file: float32 copies on the CPU.

    Args:
        prefix: the model's ``key_prefix``.
    """
    import torch

    down, up = _SUFFIXES[0]
    with torch.inference_mode(False):
        tensors: dict[str, Tensor] = {}
        for name, tensor in weights.tensors.items():
            module, factor = name[:-7], name[-7:]
            copy = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
            if factor == ".lora_A":
                tensors[f"{prefix}{module}{down}"] = copy
            else:
                tensors[f"{prefix}{module}{up}"] = copy.mul_(weights.scale)
        return tensors


def from_file_keys(
    tensors: Mapping[str, Tensor],
    source: str,
    texts: Mapping[str, str] | None = None,
    path: Path | None = None,
) -> LoRAWeights:
    """Return the LoRA that the tensors of a file hold.

    Args:
        source: the file, for messages.
        texts: its header.
        path: the file, for an ``adapter_config.json`` beside it.

    Raises:
        InputError: there is no LoRA with these keys, a layer is incomplete or given twice, a part of it is
            no plain LoRA or not finite, or its layers differ in rank or scale.
    """
    down, up = set(), set()
    for prefix in _PREFIXES:
        names = [key.removeprefix(prefix) for key in tensors if key.startswith(prefix)]
        for a, b in _SUFFIXES:
            down |= {name.removesuffix(a) for name in names if name.endswith(a)}
            up |= {name.removesuffix(b) for name in names if name.endswith(b)}
    if not down or down != up:
        raise InputError(
            "lora",
            f"{source} holds no LoRA with keys like transformer.<module>.lora_A.weight",
            "Choose a LoRA that GDRO Train LoRA made.",
        )
    layers = lora_file.from_tensors(tensors, texts or {}, source, "lora", path).layers
    modules = {name: lora_file.module_name(name) for name in layers}
    if len(set(modules.values())) < len(layers):
        raise InputError(
            "lora", f"{source} gives a layer twice", "Choose a LoRA that GDRO Train LoRA made."
        )
    scales = {(layer.rank, layer.scale) for layer in layers.values()}
    if len(scales) > 1:
        raise InputError(
            "lora",
            f"{source} has layers of different rank or alpha",
            "Choose a LoRA that GDRO Train LoRA made: its layers are all alike.",
        )
    [(rank, scale)] = scales
    factors = {f"{modules[name]}.lora_A": layer.down for name, layer in layers.items()}
    factors |= {f"{modules[name]}.lora_B": layer.up for name, layer in layers.items()}
    return LoRAWeights(factors, rank, scale * rank)


def load(path: Path) -> LoRAWeights:
    """Read a LoRA file that GDRO Train LoRA wrote.

    Raises:
        InputError: the file cannot be read, or it is no such LoRA.
    """
    try:
        tensors, header = read(path)
    except UnreadableFile as error:
        raise InputError("lora", f"{path} cannot be read ({error.found})", error.remedy) from error
    return from_file_keys(tensors, str(path), header.texts, path)


def check_trained_for(aligned: AlignedLoRA, model: FlowModel) -> None:
    """Raise ``InputError`` unless this network was the base of the training; its dtype may be another."""
    if not same_network(aligned.model, model.identity):
        raise InputError(
            "aligned",
            f"this LoRA was trained for another model ({difference(aligned.model, model.identity)})",
            "Connect the model it was trained on.",
        )


def check_fits(weights: LoRAWeights, model: FlowModel, source: str) -> None:
    """Raise ``InputError`` unless the model has every module of the LoRA, with the same shapes.

    Args:
        source: the LoRA's file, for messages.
    """
    from ..models.recognition import lora_title

    shapes, linears = weights.shapes(), model.linear_shapes()
    if all(linears.get(module) == shape for module, shape in shapes.items()):
        return
    title = lora_title(shapes)
    if title not in ("a LoRA", f"a LoRA for {model.title}"):
        raise InputError(
            "lora",
            f"{source} is {title}, this model is {model.title}",
            "Choose a LoRA that was trained for this model.",
        )
    for module, (rows, columns) in shapes.items():
        if module not in linears:
            raise InputError(
                "lora",
                f"{source} changes a layer {module!r} that this model does not have",
                "Choose a LoRA that was trained for this model.",
            )
        if linears[module] != (rows, columns):
            raise InputError(
                "lora",
                f"{source} was trained for a model of another size ({module} is {rows} x {columns} "
                f"there, {linears[module][0]} x {linears[module][1]} here)",
                "Choose a LoRA that was trained for this model.",
            )
