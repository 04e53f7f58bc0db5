"""Stages that lead to ComfyUI's own nodes (the base as its MODEL, the LoRA on one), and back from a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..lora import files
from .base import Input, Output, Stage
from .models import CHOOSE, lora_file
from .shared import MODEL

if TYPE_CHECKING:
    from ..host import Host


def _model_for_comfyui(host: Host, model: Any) -> tuple[Any, Any, Any]:
    return host.native_model(model)


def _aligned_from_file(host: Host, lora_name: str) -> tuple[Any]:
    from ..data import aligned

    return (aligned.from_file(lora_file(host, lora_name, "lora_name"), host.output_dir),)


def _load_aligned_lora(
    host: Host, model: Any, lora_name: str, strength: float, aligned: Any = None
) -> tuple[Any]:
    path = lora_file(host, lora_name, "lora_name") if aligned is None else aligned.path
    return (host.patch_model(model, path, strength),)


STAGES: dict[str, Stage] = {
    "GDRO_LoadAlignedLoRA": Stage(
        _load_aligned_lora,
        "GDRO Load Aligned LoRA",
        "Puts a trained LoRA onto a ComfyUI model, for any sampler of ComfyUI.",
        (
            Input("model", "MODEL", "A ComfyUI model of the same architecture."),
            Input(
                "lora_name",
                "COMBO",
                "A LoRA file. Not looked at while aligned is connected. The bundled one is for the tiny "
                "SD3, which then draws signs that can be read.",
                default=CHOOSE,
                options=(CHOOSE, *files.BUNDLED),
                files="loras",
            ),
            Input(
                "strength",
                "FLOAT",
                "0 is the base model, 1 the aligned one.",
                default=1.0,
                minimum=-5.0,
                maximum=5.0,
                step=0.05,
            ),
            Input("aligned", "GDRO_ALIGNED", "From GDRO Train LoRA.", optional=True),
        ),
        (Output("model", "MODEL", "The model with the LoRA."),),
        aliases=("lora",),
    ),
    "GDRO_AlignedFromFile": Stage(
        _aligned_from_file,
        "GDRO Aligned LoRA from File",
        "A LoRA that GDRO Train LoRA made earlier, for GDRO's own nodes: to train on from it, to evaluate "
        "it, or to generate with it.",
        (
            Input(
                "lora_name",
                "COMBO",
                "A LoRA file of GDRO Train LoRA.",
                default=CHOOSE,
                options=(CHOOSE, *files.BUNDLED),
                files="loras",
            ),
        ),
        (Output("aligned", "GDRO_ALIGNED", "The LoRA, for GDRO nodes."),),
        aliases=("lora", "resume", "continue"),
    ),
    "GDRO_ModelForComfyUI": Stage(
        _model_for_comfyui,
        "GDRO Model for ComfyUI",
        "The base model as ComfyUI's MODEL, CLIP and VAE, for its samplers and LoRA loaders: the bundled "
        "model, or one in diffusers' layout that ComfyUI has no loader for.",
        (MODEL,),
        (
            Output("model", "MODEL", "The network, as a copy."),
            Output("clip", "CLIP", "The text encoders, for CLIP Text Encode."),
            Output("vae", "VAE", "The autoencoder, for VAE Decode and VAE Encode."),
        ),
        aliases=("checkpoint", "ksampler", "unet", "clip", "vae"),
    ),
}
