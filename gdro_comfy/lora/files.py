"""LoRA files in the keys that ComfyUI and diffusers both read.

``transformer.<module>.lora_A.weight`` ``[rank, in]``, ``.lora_B.weight`` ``[out, rank]`` and
``transformer.<module>.alpha`` (a scalar: ComfyUI takes a missing one as scale 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.aligned import TrainResult
    from ..models.base import FlowModel

_PREFIX = "transformer."

BUNDLED = {
    "bundled: signs (tiny SD3)": Path(__file__).parent.parent
    / "assets"
    / "loras"
    / "tiny_sd3_signs.safetensors"
}
"""LoRAs of the bundled model, by the name shown to users."""


def to_file_keys(parameters: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Adapter parameters (``<module>.lora_A`` / ``.lora_B``) as the tensors of a LoRA file, float32
    copies on the CPU."""
    import torch

    with torch.inference_mode(False):
        tensors: dict[str, Tensor] = {}
        for name, parameter in parameters.items():
            value = parameter.detach().to("cpu", torch.float32, copy=True).contiguous()
            tensors[f"{_PREFIX}{name}.weight"] = value
        for name in parameters:
            if name.endswith(".lora_A"):
                module = name.removesuffix(".lora_A")
                tensors[f"{_PREFIX}{module}.alpha"] = torch.tensor(float(alpha))
        return tensors


def from_file_keys(tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The reverse: ``<module>.lora_A``, ``.lora_B`` and ``.alpha``.

    Raises:
        InputError: no LoRA of this layout is in there, or half of one is missing.
    """
    state = {}
    for key, tensor in tensors.items():
        if key.startswith(_PREFIX):
            state[key.removeprefix(_PREFIX).removesuffix(".weight")] = tensor
    modules = {key.removesuffix(".lora_A") for key in state if key.endswith(".lora_A")}
    whole = all(f"{module}.lora_B" in state for module in modules)
    if not modules or not whole:
        raise InputError(
            "lora",
            f"{source} holds no LoRA with keys like transformer.<module>.lora_A.weight",
            "Choose a LoRA that GDRO Train LoRA made.",
        )
    kinds = {
        (len(state[f"{m}.lora_A"]), float(state.get(f"{m}.alpha", len(state[f"{m}.lora_A"]))))
        for m in modules
    }
    if len(kinds) > 1:
        raise InputError(
            "lora",
            f"{source} has layers of different rank or alpha",
            "Choose a LoRA that GDRO Train LoRA made: its layers are all alike.",
        )
    return state


def load(path: Path) -> dict[str, Tensor]:
    """Read a LoRA file for ``FlowModel.with_lora``."""
    from safetensors import SafetensorError

    from ..data.files import read_tensors

    try:
        tensors = read_tensors(path)
    except (OSError, SafetensorError) as error:
        raise InputError(
            "lora", f"{path} cannot be read ({error})", "Choose a .safetensors LoRA file."
        ) from error
    return from_file_keys(tensors, str(path))


def check_trained_for(aligned: TrainResult, model: FlowModel) -> None:
    """Raise ``InputError`` unless this very model was the base of the training."""
    if aligned.model != model.identity:
        raise InputError(
            "aligned",
            "this LoRA was trained for another model",
            "Connect the model it was trained on.",
        )


def check_fits(state: Mapping[str, Tensor], model: FlowModel, source: str) -> None:
    """Raise ``InputError`` unless every module of the LoRA exists in the model with these shapes."""
    from ..models.files import lora_title

    linears, title = model.linear_shapes(), lora_title(shapes(state))
    if title not in ("a LoRA", f"a LoRA for {model.title}"):
        raise InputError(
            "lora",
            f"{source} is {title}, this model is {model.title}",
            "Choose a LoRA that was trained for this model.",
        )
    for module, (rows, columns) in shapes(state).items():
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


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, int]]:
    """(out, in) of every layer that a LoRA (as ``load`` returns it) changes, by module name."""
    modules = [key.removesuffix(".lora_A") for key in state if key.endswith(".lora_A")]
    return {
        module: (state[f"{module}.lora_B"].shape[0], state[f"{module}.lora_A"].shape[1])
        for module in modules
    }
