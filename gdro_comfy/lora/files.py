"""LoRA files in keys that other programs read.

A model of diffusers has ``transformer.<module>.lora_A.weight`` ``[rank, in]`` and ``.lora_B.weight``
``[out, rank]``, which ComfyUI and diffusers both read. A model of ComfyUI's wires has
``diffusion_model.<module>.lora_down.weight`` and ``.lora_up.weight``, which ComfyUI reads for every family.
Both have ``.alpha``, a scalar, which is always written: ComfyUI takes a missing one as scale 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.lora_weights import LoRAWeights
from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.aligned import AlignedLoRA
    from ..models.base import FlowModel

_SUFFIXES = {
    "transformer.": (".lora_A.weight", ".lora_B.weight"),
    "diffusion_model.": (".lora_down.weight", ".lora_up.weight"),
}
"""What precedes a module's name -> what follows it, for the factors A and B."""

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

    down, up = _SUFFIXES[prefix]
    with torch.inference_mode(False):
        tensors: dict[str, Tensor] = {}
        for name, tensor in weights.tensors.items():
            module, factor = name[:-7], name[-7:]
            copy = tensor.detach().to("cpu", torch.float32, copy=True).contiguous()
            tensors[f"{prefix}{module}{down if factor == '.lora_A' else up}"] = copy
        for module in weights.modules:
            tensors[f"{prefix}{module}.alpha"] = torch.tensor(float(weights.alpha))
        return tensors


def from_file_keys(tensors: Mapping[str, Tensor], source: str) -> LoRAWeights:
    """Return the LoRA that the tensors of a file hold.

    Args:
        source: the file, for messages.

    Raises:
        InputError: there is no LoRA with these keys, a layer is incomplete, or its layers differ in
            rank or alpha.
    """
    layers: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        prefix = next((prefix for prefix in _SUFFIXES if key.startswith(prefix)), None)
        if prefix is None:
            continue
        name = key.removeprefix(prefix)
        for ours, theirs in zip((".lora_A", ".lora_B"), _SUFFIXES[prefix], strict=True):
            if name.endswith(theirs):
                layers[name.removesuffix(theirs) + ours] = tensor
        if name.endswith(".alpha"):
            alphas[name.removesuffix(".alpha")] = float(tensor)
    modules = [name.removesuffix(".lora_A") for name in layers if name.endswith(".lora_A")]
    if not modules or not all(f"{module}.lora_B" in layers for module in modules):
        raise InputError(
            "lora",
            f"{source} holds no LoRA with keys like transformer.<module>.lora_A.weight",
            "Choose a LoRA that GDRO Train LoRA made.",
        )
    ranks = {module: len(layers[f"{module}.lora_A"]) for module in modules}
    scales = {(rank, alphas.get(module, float(rank))) for module, rank in ranks.items()}
    if len(scales) > 1:
        raise InputError(
            "lora",
            f"{source} has layers of different rank or alpha",
            "Choose a LoRA that GDRO Train LoRA made: its layers are all alike.",
        )
    [(rank, alpha)] = scales
    return LoRAWeights(layers, rank, alpha)


def load(path: Path) -> LoRAWeights:
    """Read a LoRA file that GDRO Train LoRA wrote.

    Raises:
        InputError: the file cannot be read, or it is no such LoRA.
    """
    from safetensors import SafetensorError

    from ..data.files import read_tensors

    try:
        tensors = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            "lora", f"{path} cannot be read ({error})", "Choose a .safetensors LoRA file."
        ) from error
    return from_file_keys(tensors, str(path))


def check_trained_for(aligned: AlignedLoRA, model: FlowModel) -> None:
    """Raise ``InputError`` unless this very model was the base of the training."""
    if aligned.model != model.identity:
        raise InputError(
            "aligned",
            "this LoRA was trained for another model",
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
