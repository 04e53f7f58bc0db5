"""Stages that load the base model and generate with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..lora import files
from .base import Input, Output, Stage
from .shared import CHOOSE, MODEL, SAMPLING, SEED, SIZE, lora_file

if TYPE_CHECKING:
    from pathlib import Path

    from ..host import Host
    from ..models.base import LoRAFile

NONE = "none"
"""The default of an optional file: not needed, or taken from the checkpoint."""

_FOLDERS = {
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
        "The network from models/diffusion_models, or a full checkpoint from models/checkpoints. "
        "SD3, SD3.5 or FLUX.1, in fp16, bf16 or fp8.",
        default=CHOOSE,
        options=(CHOOSE,),
        files="transformers",
    ),
    Input(
        "clip_l",
        "COMBO",
        "CLIP-L, from models/text_encoders; none if the checkpoint contains it.",
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
        "T5-XXL in fp16 or fp8. FLUX.1 needs it. With SD3, none saves memory but handles long "
        "prompts less well.",
        default=NONE,
        options=(NONE,),
        files="text_encoders",
    ),
    Input(
        "vae",
        "COMBO",
        "The VAE of the model family, from models/vae; none if the checkpoint contains it.",
        default=NONE,
        options=(NONE,),
        files="vae",
    ),
)
"""The inputs of the source "single files"."""

_LORAS = {"none": 0, "one": 1, "two": 2}
"""The choices of ``loras``, and how many LoRAs each has."""


def _lora_inputs(number: int) -> tuple[Input, ...]:
    """Declare the inputs of the first (1) or second (2) LoRA to merge."""
    return (
        Input(
            f"lora_{number}",
            "COMBO",
            "A LoRA for the same model, from models/loras, in the format of any common tool. Its "
            "text encoder layers are ignored.",
            default=CHOOSE,
            options=(CHOOSE, *files.BUNDLED),
            files="loras",
        ),
        Input(
            f"strength_{number}",
            "FLOAT",
            "The strength that you use in ComfyUI; 0 leaves the base unchanged.",
            default=1.0,
            min=-5.0,
            max=5.0,
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
    paths = _single_files(host, source) if source["source"] == "single files" else {}
    quantizing.check(quantization, device)
    merged = _merged_loras(host, loras or {"loras": "none"})
    for lora in merged:
        merging.read(lora)
    if paths:
        changes = bool(merged) or quantization != "none"
        model = single_files.load(host, paths, device, loading.dtype_of(dtype, device), changes)
    else:
        model = loading.load(_folder(host, source), device, dtype)
    model.prepare(host, merged, quantization)
    return (model,)


def _folder(host: Host, source: dict[str, Any]) -> Path:
    """Return the model's folder in diffusers' layout, downloaded for a Hugging Face id."""
    from ..models import loading

    if source["source"] == "Hugging Face id":
        from ..models import hub

        return hub.download(host, source["repo_id"])
    if source["source"] == "bundled":
        return loading.bundled_folder(source["model"])
    folders, name = host.model_files("diffusers"), source.get("folder")
    if name not in folders:
        raise InputError(
            "folder",
            f"{name!r} is not among the diffusers folders",
            f"There are: {', '.join(folders) or 'none'}. Put one into models/diffusers.",
        )
    return folders[name]


def _merged_loras(host: Host, loras: dict[str, Any]) -> list[LoRAFile]:
    """Return the LoRAs to merge, without those of strength 0."""
    from ..models.base import LoRAFile

    numbers = range(1, _LORAS[loras["loras"]] + 1)
    return [
        LoRAFile(
            lora_file(host, loras[f"lora_{n}"], f"lora_{n}"), loras[f"strength_{n}"], f"lora_{n}"
        )
        for n in numbers
        if loras[f"strength_{n}"]
    ]


def _single_files(host: Host, source: dict[str, Any]) -> dict[str, Path]:
    """Return the path of each chosen file by input, without those left at "none"."""
    paths: dict[str, Path] = {}
    for item in _FILES:
        name = source.get(item.name) or NONE
        if name in (NONE, CHOOSE):
            continue
        files_of_kind = host.model_files(item.files or "")
        if name not in files_of_kind:
            raise InputError(
                item.name,
                f"{name!r} is not among the files",
                f"Put it into {_FOLDERS[item.name]}, press R and choose it again.",
            )
        paths[item.name] = files_of_kind[name]
    if "transformer" not in paths:
        from ..models import single_files

        usable = single_files.networks(host.model_files("transformers"))
        available = f" There is: {', '.join(usable[:6])}." if usable else ""
        raise InputError(
            "transformer",
            "no file is chosen",
            f"Choose an SD3, SD3.5 or FLUX.1 model. Put it into {_FOLDERS['transformer']} and press R to "
            f"see it.{available}",
        )
    return paths


def _generate(
    host: Host, model: Any, prompt: str, images: int, seed: int, **settings: Any
) -> tuple[Any]:
    from ..rollouts import generate

    return (generate.generate(host, model, prompt, images, seed, **settings),)


LOAD_BASE_MODEL = Stage(
    run=_load_base_model,
    display_name="GDRO Load Base Model",
    category="model",
    description="The model to align. The bundled tiny SD3 runs on any computer and needs no download.",
    inputs=(
        Input(
            "source",
            "DYNAMICCOMBO",
            "Where the model comes from.",
            choices={
                "bundled": (
                    Input(
                        "model",
                        "COMBO",
                        "A tiny SD3 for 64-pixel pictures: coloured shapes, and signs with one "
                        "word.",
                        default="tiny SD3",
                        options=("tiny SD3",),
                    ),
                ),
                "diffusers folder": (
                    Input(
                        "folder",
                        "COMBO",
                        "A Stable Diffusion 3, 3.5 or FLUX.1 model in diffusers' folder layout, "
                        "in models/diffusers.",
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
            "Precision of the weights. auto: bfloat16 on a GPU (float16 if it does not support "
            "that), float32 on a CPU.",
            default="auto",
            options=("auto", "float32", "bfloat16", "float16"),
            advanced=True,
        ),
        Input(
            "quantization",
            "COMBO",
            "Makes the base smaller: 8-bit takes half the memory, nf4 a quarter; both are slower. "
            "The LoRA stays in full precision. nf4 needs: pip install bitsandbytes",
            default="none",
            optional=True,
            options=("none", "8-bit", "nf4"),
            advanced=True,
        ),
        Input(
            "loras",
            "DYNAMICCOMBO",
            "Your own LoRAs, such as a style, merged into the base first. Use the trained LoRA "
            "together with them.",
            default="none",
            optional=True,
            choices={
                name: tuple(i for n in range(1, count + 1) for i in _lora_inputs(n))
                for name, count in _LORAS.items()
            },
        ),
    ),
    outputs=(Output("model", "GDRO_MODEL", "The base model."),),
    search_aliases=("sd3", "flux", "base", "checkpoint"),
)

GENERATE = Stage(
    run=_generate,
    display_name="GDRO Generate",
    category="model",
    description=(
        "Generates images with the base or the aligned model. The same seed shows the difference."
    ),
    inputs=(
        MODEL,
        Input(
            "prompt",
            "STRING",
            "What the image should show.",
            default="two red circles left of one blue square",
            multiline=True,
        ),
        Input("images", "INT", "Number of images.", default=4, min=1, max=256),
        *SAMPLING,
        *SIZE,
        SEED,
        Input(
            "strength",
            "FLOAT",
            "Strength of the aligned LoRA; 0 is the base model.",
            default=1.0,
            min=-5.0,
            max=5.0,
            step=0.05,
        ),
        Input(
            "aligned",
            "GDRO_ALIGNED",
            "From GDRO Train LoRA; without it, the base is used.",
            optional=True,
        ),
    ),
    outputs=(Output("images", "IMAGE", "The images."),),
    search_aliases=("sample",),
)
