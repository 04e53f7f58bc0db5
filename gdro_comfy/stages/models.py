"""Stages around models: load the base, generate with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..lora import files
from .base import Input, Output, Stage
from .shared import MODEL, SEED, SIZE, sampling

if TYPE_CHECKING:
    from pathlib import Path

    from ..host import Host
    from ..models.base import Style

NONE = "none"
"""Of an optional file: not needed, or taken from the checkpoint."""
CHOOSE = "choose a file"
"""Of a file that is needed: in the list also where there is none, so that a workflow opens anywhere."""

_PLACES = {
    "transformer": "models/diffusion_models or models/checkpoints",
    "clip_l": "models/text_encoders",
    "clip_g": "models/text_encoders",
    "t5": "models/text_encoders",
    "vae": "models/vae",
}

_FILES = (
    Input(
        "transformer",
        "COMBO",
        "The network, from models/diffusion_models, or a whole checkpoint, from models/checkpoints. "
        "SD3, SD3.5 or FLUX.1, in fp16, bf16 or fp8.",
        default=CHOOSE,
        options=(CHOOSE,),
        files="transformers",
    ),
    Input(
        "clip_l",
        "COMBO",
        "CLIP-L, from models/text_encoders; none where the checkpoint has it.",
        default=NONE,
        options=(NONE,),
        files="text_encoders",
    ),
    Input(
        "clip_g",
        "COMBO",
        "CLIP-G, for SD3 and SD3.5 only.",
        default=NONE,
        options=(NONE,),
        files="text_encoders",
    ),
    Input(
        "t5",
        "COMBO",
        "T5-XXL in fp16 or fp8. FLUX.1 needs it; with SD3 none saves memory, and it reads long "
        "prompts less well.",
        default=NONE,
        options=(NONE,),
        files="text_encoders",
    ),
    Input(
        "vae",
        "COMBO",
        "The family's VAE, from models/vae; none where the checkpoint has it.",
        default=NONE,
        options=(NONE,),
        files="vae",
    ),
)
"""The inputs of the source "single files"."""


_LORAS = {"none": 0, "one": 1, "two": 2}


def _lora_inputs(number: int) -> tuple[Input, ...]:
    return (
        Input(
            f"lora_{number}",
            "COMBO",
            "A LoRA of the same model, from models/loras, in the layout of any common tool. Its text "
            "encoder layers are left out.",
            default=CHOOSE,
            options=(CHOOSE, *files.BUNDLED),
            files="loras",
        ),
        Input(
            f"strength_{number}",
            "FLOAT",
            "As you use it in ComfyUI; 0 leaves the base as it is.",
            default=1.0,
            minimum=-5.0,
            maximum=5.0,
            step=0.05,
        ),
    )


def _load_base_model(
    host: Host,
    source: dict[str, Any],
    dtype: str,
    quantization: str = "none",
    loras: dict[str, Any] | None = None,
) -> tuple[Any]:
    from ..models import loading, merging, single_files
    from ..models import quantization as quantizing

    device = host.device()
    chosen = _single_files(host, source) if source["source"] == "single files" else {}
    quantizing.check(quantization, device)
    styles = _styles(host, loras or {"loras": "none"})
    for style in styles:
        merging.read(style)
    if chosen:
        model = single_files.load(host, chosen, device, loading.dtype_of(dtype, device))
    else:
        model = loading.load(_folder(host, source), device, dtype)
    for style in styles:
        model.merge(host, style)
    model.quantize(host, quantization)
    return (model,)


def _folder(host: Host, source: dict[str, Any]) -> Path:
    """The model's folder in diffusers' layout, downloaded where that was asked for."""
    from ..models import loading

    if source["source"] == "Hugging Face id":
        from ..models import hub

        return hub.download(host, source["repo_id"])
    if source["source"] == "bundled":
        return loading.bundled_folder(source["model"])
    found, name = host.model_files("diffusers"), source.get("folder")
    if name not in found:
        raise InputError(
            "folder",
            f"{name!r} is not among the diffusers folders",
            f"There are: {', '.join(found) or 'none'}. Put one into models/diffusers.",
        )
    return found[name]


def _styles(host: Host, loras: dict[str, Any]) -> list[Style]:
    """The LoRAs to merge; those of strength 0 are not in it."""
    from ..models.base import Style

    numbers = range(1, _LORAS[loras["loras"]] + 1)
    return [
        Style(lora_file(host, loras[f"lora_{n}"], f"lora_{n}"), loras[f"strength_{n}"], f"lora_{n}")
        for n in numbers
        if loras[f"strength_{n}"]
    ]


def lora_file(host: Host, name: str, input_name: str) -> Path:
    """The LoRA that was chosen at an input."""
    found = {**host.model_files("loras"), **files.BUNDLED}
    if name in found:
        return found[name]
    remedy = "Choose one from the list (models/loras); press R if it is new."
    if name == CHOOSE:
        raise InputError(input_name, "no file is chosen", remedy)
    raise InputError(input_name, f"{name!r} is not among the LoRA files", remedy)


def _single_files(host: Host, source: dict[str, Any]) -> dict[str, Path]:
    """The files that were chosen, by input; those left at "none" are not in it."""
    chosen: dict[str, Path] = {}
    for item in _FILES:
        name = source.get(item.name) or NONE
        if name in (NONE, CHOOSE):
            continue
        found = host.model_files(item.files or "")
        if name not in found:
            raise InputError(
                item.name,
                f"{name!r} is not among the files",
                f"Put it into {_PLACES[item.name]}, press R and choose it again.",
            )
        chosen[item.name] = found[name]
    if "transformer" not in chosen:
        from ..models import single_files

        usable = single_files.networks(host.model_files("transformers"))
        there = f" There is: {', '.join(usable[:6])}." if usable else ""
        raise InputError(
            "transformer",
            "no file is chosen",
            f"Choose a model of SD3, SD3.5 or FLUX.1; it belongs in {_PLACES['transformer']}, press R "
            f"when it is there.{there}",
        )
    return chosen


def _generate(
    host: Host, model: Any, prompt: str, images: int, seed: int, **rest: Any
) -> tuple[Any]:
    from ..rollouts import generate

    return (generate.generate(host, model, prompt, images, seed, **rest),)


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
                            "A tiny SD3 for 64-pixel pictures: coloured shapes, and signs with a word.",
                            default="tiny SD3",
                            options=("tiny SD3",),
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
                    "single files": _FILES,
                    "Hugging Face id": (
                        Input(
                            "repo_id",
                            "STRING",
                            "owner/name of a model in diffusers' layout. It is downloaded into "
                            "models/diffusers (SD3.5-medium: 17 GB, FLUX.1-dev: 34 GB).",
                            default="stabilityai/stable-diffusion-3.5-medium",
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
            Input(
                "quantization",
                "COMBO",
                "A smaller base: 8-bit takes half of the memory, nf4 a quarter, both are slower. The LoRA "
                "stays in full precision. Needs: pip install bitsandbytes",
                default="none",
                optional=True,
                options=("none", "8-bit", "nf4"),
                advanced=True,
            ),
            Input(
                "loras",
                "DYNAMIC",
                "LoRAs of yours, such as a style, that are merged into the base before anything else. What "
                "is trained on it is used together with them.",
                default="none",
                optional=True,
                choices={
                    name: tuple(i for n in range(1, count + 1) for i in _lora_inputs(n))
                    for name, count in _LORAS.items()
                },
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
}
