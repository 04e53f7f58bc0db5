"""Inputs that several stages have, and pictures as ComfyUI's IMAGE."""

from __future__ import annotations

from ..imaging import image_tensor
from .base import Input

__all__ = ["MODEL", "SEED", "SIZE", "image_tensor", "sampling"]

MODEL = Input("model", "GDRO_MODEL", "The base model, from GDRO Load Base Model.")
SEED = Input(
    "seed",
    "INT",
    "The same seed gives the same images.",
    default=0,
    minimum=0,
    maximum=2**53,
)


def sampling(guidance: float, steps: int) -> tuple[Input, ...]:
    return (
        Input(
            "steps",
            "INT",
            "Sampling steps from noise to image. The bundled model needs 8, SD3 and FLUX.1-dev 10 "
            "to 28.",
            default=steps,
            minimum=1,
            maximum=200,
        ),
        Input(
            "guidance",
            "FLOAT",
            "Guidance scale. FLUX.1-dev: 3.5. Others: 1 is none, and half of the work; too high looks "
            "burnt. FLUX.1-schnell has none.",
            default=guidance,
            minimum=1.0,
            maximum=30.0,
            step=0.1,
        ),
    )


SIZE = (
    Input(
        "width",
        "INT",
        "Width in pixels; 0 is the size the model was trained for.",
        default=0,
        minimum=0,
        maximum=4096,
        step=8,
    ),
    Input(
        "height",
        "INT",
        "Height in pixels; 0 is the size the model was trained for.",
        default=0,
        minimum=0,
        maximum=4096,
        step=8,
    ),
)
