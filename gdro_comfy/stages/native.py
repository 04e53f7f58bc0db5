"""Stages that connect to ComfyUI: the base as its MODEL, a LoRA on a MODEL, a LoRA from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lora import files
from .base import Input, Output, Stage
from .shared import CHOOSE, MODEL, lora_file

if TYPE_CHECKING:
    from ..host import Host


def _model_for_comfyui(host: Host, model: Any) -> tuple[Any, Any, Any]:
    return host.native_model(model)


def _model_from_wires(host: Host, model: Any, clip: Any, vae: Any) -> tuple[Any]:
    return (host.wire_model(model, clip, vae),)


def _aligned_from_file(host: Host, lora_name: str) -> tuple[Any]:
    from ..data import aligned

    return (aligned.from_file(lora_file(host, lora_name, "lora_name"), host.output_dir),)


def _load_aligned_lora(
    host: Host, model: Any, lora_name: str, strength: float, aligned: Any = None
) -> tuple[Any]:
    path = lora_file(host, lora_name, "lora_name") if aligned is None else aligned.path
    return (host.patch_model(model, path, strength),)


LOAD_ALIGNED_LORA = Stage(
    run=_load_aligned_lora,
    display_name="GDRO Load Aligned LoRA",
    category="model",
    description="Applies a trained LoRA to a ComfyUI model, for any of ComfyUI's samplers.",
    inputs=(
        Input("model", "MODEL", "A ComfyUI model of the same architecture."),
        Input(
            "lora_name",
            "COMBO",
            "A LoRA file; ignored while aligned is connected. The bundled one is for the tiny "
            "SD3, which then draws legible signs.",
            default=CHOOSE,
            options=(CHOOSE, *files.BUNDLED),
            files="loras",
        ),
        Input(
            "strength",
            "FLOAT",
            "0 is the base model, 1 the aligned model.",
            default=1.0,
            min=-5.0,
            max=5.0,
            step=0.05,
        ),
        Input("aligned", "GDRO_ALIGNED", "From GDRO Train LoRA.", optional=True),
    ),
    outputs=(Output("model", "MODEL", "The model with the LoRA."),),
    search_aliases=("lora",),
)

ALIGNED_FROM_FILE = Stage(
    run=_aligned_from_file,
    display_name="GDRO Aligned LoRA from File",
    category="model",
    description=(
        "Loads a LoRA that GDRO Train LoRA made earlier, for GDRO's own nodes: to continue "
        "training, to evaluate it, or to generate with it."
    ),
    inputs=(
        Input(
            "lora_name",
            "COMBO",
            "A LoRA file made by GDRO Train LoRA.",
            default=CHOOSE,
            options=(CHOOSE, *files.BUNDLED),
            files="loras",
        ),
    ),
    outputs=(Output("aligned", "GDRO_ALIGNED", "The LoRA, for GDRO nodes."),),
    search_aliases=("lora", "resume", "continue"),
)

MODEL_FROM_WIRES = Stage(
    run=_model_from_wires,
    display_name="GDRO Model from ComfyUI",
    category="model",
    description=(
        "The model of your graph as the base to align: MODEL, CLIP and VAE from any of ComfyUI's "
        "loaders. It needs no second copy; LoRAs and ModelSampling nodes before it are part of the base."
    ),
    inputs=(
        Input(
            "model",
            "MODEL",
            "A model that predicts a rectified flow: SD3.5, FLUX, Chroma, Qwen-Image, Z-Image and others. "
            "Not SD 1.5 or SDXL.",
        ),
        Input("clip", "CLIP", "The text encoders that belong to the model."),
        Input("vae", "VAE", "The VAE that belongs to the model."),
    ),
    outputs=(Output("model", "GDRO_MODEL", "The base, for the GDRO nodes."),),
    search_aliases=("base", "wire", "checkpoint", "unet", "flux", "qwen", "z-image", "chroma"),
)

MODEL_FOR_COMFYUI = Stage(
    run=_model_for_comfyui,
    display_name="GDRO Model for ComfyUI",
    category="model",
    description=(
        "The base model as ComfyUI's MODEL, CLIP and VAE, for its samplers and LoRA loaders: the "
        "bundled model, or one in diffusers' layout that ComfyUI cannot load."
    ),
    inputs=(MODEL,),
    outputs=(
        Output("model", "MODEL", "A copy of the network."),
        Output("clip", "CLIP", "The text encoders, for CLIP Text Encode."),
        Output("vae", "VAE", "The autoencoder, for VAE Decode and VAE Encode."),
    ),
    search_aliases=("checkpoint", "ksampler", "unet", "clip", "vae"),
)
