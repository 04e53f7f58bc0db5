"""From what a user names to a loaded FlowModel: the bundled models, or a diffusers folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from . import fingerprints
from .families import FAMILIES

if TYPE_CHECKING:
    import torch

    from .base import FlowModel

_ASSETS = Path(__file__).parent.parent / "assets"
BUNDLED = {"tiny SD3": "tiny_sd3"}
DTYPES = ("auto", "float32", "bfloat16", "float16")


def bundled_folder(name: str = "tiny SD3") -> Path:
    """The folder of a bundled model, by the name shown to users."""
    if name not in BUNDLED:
        raise InputError(
            "model", f"{name!r} is not bundled", f"Choose one of: {', '.join(BUNDLED)}."
        )
    return _ASSETS / BUNDLED[name]


def load(folder: Path, device: torch.device, dtype: str = "auto") -> FlowModel:
    """Load a diffusers folder of a family that the engine knows.

    Args:
        folder: with ``model_index.json``; nothing is downloaded.
        device: where to compute.
        dtype: "auto" is bfloat16 on a GPU that has it, float16 on another, float32 on a CPU.

    Raises:
        InputError: the folder is no pipeline, of another architecture, or lacks a part.
    """
    import torch

    index = _read_index(folder)
    kind = index.get("_class_name")
    family = next((family for family in FAMILIES if family.pipeline == kind), None)
    if family is None:
        known = ", ".join(f"{family.title} ({family.pipeline})" for family in FAMILIES)
        raise InputError("folder", f"{folder} holds a {kind}", f"Choose a folder of: {known}.")
    for part, value in index.items():
        wanted = isinstance(value, list) and len(value) == 2 and value[0] is not None
        if wanted and part not in family.optional and not (folder / part).is_dir():
            raise InputError(
                "folder", f"{folder} lacks its part {part!r}", "Download or copy the folder again."
            )
    absent = [name for name in family.optional if not (folder / name).is_dir()]
    with torch.inference_mode(False):
        try:
            pipeline = family.pipeline_class().from_pretrained(
                folder,
                torch_dtype=dtype_of(dtype, device),
                local_files_only=True,
                use_safetensors=True,
                **dict.fromkeys(absent),
            )
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                "folder",
                f"{folder} cannot be loaded ({error})",
                "Download or copy the folder again.",
            ) from error
        identity = {"pipeline": kind, "transformer": fingerprints.of_transformer(folder)}
        return family.model_class()(pipeline, identity, device)


def _read_index(folder: Path) -> dict[str, Any]:
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "folder",
            f"{folder} has no readable model_index.json",
            "Choose a folder in diffusers' layout: model_index.json beside transformer/, vae/, ...",
        ) from error
    if not isinstance(index, dict):
        raise InputError("folder", f"{folder}'s model_index.json is no object", "Copy it again.")
    return index


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """The dtype of weights for a name of ``DTYPES``."""
    import torch

    if name not in DTYPES:
        raise InputError("dtype", f"{name!r} is unknown", f"Choose one of: {', '.join(DTYPES)}.")
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16
