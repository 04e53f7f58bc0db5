"""Stages around models: load the base, generate with it, put the LoRA into ComfyUI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..stage import Input, Output, Stage
from .shared import MODEL, SEED, SIZE, sampling

if TYPE_CHECKING:
    from ..host import Host


def _load_base_model(host: Host, source: dict[str, Any], dtype: str) -> tuple[Any]:
    from ..models import loading

    if source["source"] == "bundled":
        folder = loading.bundled_folder(source["model"])
    else:
        found = host.model_files("diffusers")
        name = source.get("folder")
        if name not in found:
            raise InputError(
                "folder",
                f"{name!r} is not among the diffusers folders",
                f"There are: {', '.join(found) or 'none'}. Put one into models/diffusers.",
            )
        folder = found[name]
    return (loading.load(folder, host.device(), dtype),)


def _generate(
    host: Host, model: Any, prompt: str, images: int, seed: int, **rest: Any
) -> tuple[Any]:
    from .. import generate

    return (generate.generate(host, model, prompt, images, seed, **rest),)


def _load_aligned_lora(
    host: Host, model: Any, lora_name: str, strength: float, aligned: Any = None
) -> tuple[Any]:
    if aligned is not None:
        path = aligned.path
    else:
        files = host.model_files("loras")
        if lora_name not in files:
            raise InputError(
                "lora_name",
                f"{lora_name!r} is not among the LoRA files",
                "Connect GDRO Train LoRA, or choose a file from the list.",
            )
        path = files[lora_name]
    return (host.patch_model(model, path, strength),)


STAGES: dict[str, Stage] = {
    "GDRO_LoadBaseModel": Stage(
        _load_base_model,
        "GDRO Load Base Model",
        "The model to align. The bundled tiny SD3 runs on any computer and needs no download.",
        (
            Input(
                "source",
                "DYNAMIC",
                "Where the model comes from.",
                choices={
                    "bundled": (
                        Input(
                            "model",
                            "COMBO",
                            "A tiny SD3 for 64-pixel pictures of coloured shapes.",
                            default="tiny SD3, shapes",
                            options=("tiny SD3, shapes",),
                        ),
                    ),
                    "diffusers folder": (
                        Input(
                            "folder",
                            "COMBO",
                            "A Stable Diffusion 3, 3.5 or FLUX.1 folder in diffusers' layout, in "
                            "models/diffusers.",
                            files="diffusers",
                        ),
                    ),
                },
            ),
            Input(
                "dtype",
                "COMBO",
                "Precision of the weights. auto: bfloat16 on a GPU (float16 where it has none), "
                "float32 on a CPU.",
                default="auto",
                options=("auto", "float32", "bfloat16", "float16"),
                advanced=True,
            ),
        ),
        (Output("model", "GDRO_MODEL", "The base model."),),
        aliases=("sd3", "flux", "base", "checkpoint"),
    ),
    "GDRO_Generate": Stage(
        _generate,
        "GDRO Generate",
        "Generates images with the base model, or with the aligned one. The same seed shows the "
        "difference.",
        (
            MODEL,
            Input(
                "prompt",
                "STRING",
                "What to show.",
                default="two red circles left of one blue square",
                multiline=True,
            ),
            Input("images", "INT", "How many.", default=4, minimum=1, maximum=256),
            *sampling(1.0, 28),
            *SIZE,
            SEED,
            Input(
                "strength",
                "FLOAT",
                "Of the aligned LoRA: 0 is the base model.",
                default=1.0,
                minimum=-5.0,
                maximum=5.0,
                step=0.05,
            ),
            Input(
                "aligned", "GDRO_ALIGNED", "From GDRO Train LoRA; none is the base.", optional=True
            ),
        ),
        (Output("images", "IMAGE", "The images."),),
        aliases=("sample",),
    ),
    "GDRO_LoadAlignedLoRA": Stage(
        _load_aligned_lora,
        "GDRO Load Aligned LoRA",
        "Puts a trained LoRA onto a ComfyUI model, for any sampler of ComfyUI.",
        (
            Input("model", "MODEL", "A ComfyUI model of the same architecture."),
            Input(
                "lora_name",
                "COMBO",
                "A LoRA file. Not looked at while aligned is connected.",
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
}
