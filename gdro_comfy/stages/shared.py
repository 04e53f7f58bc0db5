"""Inputs that several stages have, and the files chosen at them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..data.runs import SamplerChoice
from ..errors import InputError
from ..lora import files
from .base import Input

if TYPE_CHECKING:
    from pathlib import Path

    from ..host import Host

CHOOSE = "choose a file"
"""The default of a required file; it is in every list, so that a workflow opens without any file."""

MODEL = Input(
    "model",
    "GDRO_MODEL",
    "The base model, from GDRO Load Base Model or GDRO Model from ComfyUI.",
)
SAMPLERS: list[str] = []
SCHEDULERS: list[str] = []
"""ComfyUI's samplers and schedulers, filled in by ``nodes``; a console has none to choose from."""

DEFAULT = "default"
SAMPLER = (
    Input(
        "sampler",
        "COMBO",
        "ComfyUI's sampler, for a model from GDRO Model from ComfyUI. default: euler.",
        default=DEFAULT,
        options=(DEFAULT,),
        listing=lambda: SAMPLERS,
        optional=True,
        advanced=True,
    ),
    Input(
        "scheduler",
        "COMBO",
        "ComfyUI's scheduler, for a model from GDRO Model from ComfyUI. default: simple.",
        default=DEFAULT,
        options=(DEFAULT,),
        listing=lambda: SCHEDULERS,
        optional=True,
        advanced=True,
    ),
    Input(
        "negative_prompt",
        "STRING",
        "What guidance moves away from, for a model from GDRO Model from ComfyUI. It needs a guidance "
        "above 1.",
        default="",
        multiline=True,
        optional=True,
        advanced=True,
    ),
)


def sampler_choice(settings: dict[str, Any]) -> SamplerChoice | None:
    """Take the inputs of ``SAMPLER`` out of a stage's settings; None if all are at their defaults."""
    name, scheduler = settings.pop("sampler", DEFAULT), settings.pop("scheduler", DEFAULT)
    negative = (settings.pop("negative_prompt", "") or "").strip()
    if (name, scheduler, negative) == (DEFAULT, DEFAULT, ""):
        return None
    plain = SamplerChoice()
    return SamplerChoice(
        plain.name if name == DEFAULT else name,
        plain.scheduler if scheduler == DEFAULT else scheduler,
        negative,
    )


SEED = Input(
    "seed",
    "INT",
    "The same seed gives the same images.",
    default=0,
    min=0,
    max=2**53,
)
SAMPLING = (
    Input(
        "steps",
        "INT",
        "Sampling steps. The bundled model needs 8, SD3 and FLUX.1-dev 10 to 28.",
        default=28,
        min=1,
        max=200,
    ),
    Input(
        "guidance",
        "FLOAT",
        "Guidance scale. 0 is the model's own: 3.5 for FLUX.1-dev, none for the others. 1 is none, which "
        "halves the work; too high looks burnt. FLUX.1-schnell does not use it.",
        default=0.0,
        min=0.0,
        max=30.0,
        step=0.1,
    ),
)
SIZE = (
    Input(
        "width",
        "INT",
        "Width in pixels; 0 uses the size that the model was trained for.",
        default=0,
        min=0,
        max=4096,
        step=8,
    ),
    Input(
        "height",
        "INT",
        "Height in pixels; 0 uses the size that the model was trained for.",
        default=0,
        min=0,
        max=4096,
        step=8,
    ),
)


def judge_folder(host: Host, name: str | None, input_name: str = "folder") -> Path:
    """Return the folder of weights chosen at an input.

    Raises:
        InputError: the list has no such folder.
    """
    folders = host.model_files("judges")
    if name not in folders:
        raise InputError(
            input_name,
            f"{name!r} is not among the folders of judges",
            f"There are: {', '.join(folders) or 'none'}. Put one into models/LLM or models/gdro.",
        )
    return folders[name]


def lora_file(host: Host, name: str, input_name: str) -> Path:
    """Return the LoRA chosen at an input, bundled ones included.

    Raises:
        InputError: nothing is chosen, or the list has no such file.
    """
    paths = {**host.model_files("loras"), **files.BUNDLED}
    if name in paths:
        return paths[name]
    remedy = "Choose one from the list (models/loras); press R if it is new."
    if name == CHOOSE:
        raise InputError(input_name, "no file is chosen", remedy)
    raise InputError(input_name, f"{name!r} is not among the LoRA files", remedy)
