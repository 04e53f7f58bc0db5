"""ComfyUI's own nodes that the shipped workflows use, for running them without ComfyUI."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.disk import make_folder
from ..data.quotes import excerpt
from ..errors import InputError
from ..stages.base import Input, Output, Stage

if TYPE_CHECKING:
    from ..host import Host

log = logging.getLogger(__name__)


def _free_name(host: Host, prefix: str, pattern: str) -> Path:
    """Return the path of the next unused file name.

    Args:
        prefix: folder below the output folder, and start of the name.
        pattern: end of the name, with ``{}`` for the number.
    """
    subfolder, _, stem = prefix.replace("\\", "/").rpartition("/")
    folder = (host.output_dir / subfolder).resolve()
    if not folder.is_relative_to(host.output_dir.resolve()):
        raise InputError(
            "filename_prefix",
            f"{excerpt(prefix)} is outside the output folder",
            "Use a name, or a folder and a name, below it.",
        )
    stem = re.sub(r'[<>:"|?*\x00-\x1f]', "_", stem) or "ComfyUI"
    make_folder(folder)
    number = 1
    while (path := folder / f"{stem}_{pattern.format(f'{number:05d}')}").exists():
        number += 1
    return path


def _save_image(
    host: Host, images: Any, filename_prefix: str = "preview/ComfyUI"
) -> tuple[Any, ...]:
    from ..data.files import write_png
    from ..imaging import to_pil

    for image in to_pil(images):
        path = _free_name(host, filename_prefix, "{}_.png")
        write_png(path, image)
        log.info("saved %s", path)
    return (images,)


def _preview_any(host: Host, source: Any) -> tuple[Any, ...]:
    log.info("%s", source)
    return (str(source),)


def _save_lora(host: Host, lora: Any, prefix: str, steps: int | None = None) -> tuple[Any, ...]:
    from ..data.files import write_tensors

    count = "" if steps is None else f"{steps}_steps_"
    path = _free_name(host, prefix, count + "{}_.safetensors")
    write_tensors(path, lora)
    log.info("saved %s", path)
    return ()


def _loss_graph(host: Host, loss: Any, filename_prefix: str) -> tuple[Any, ...]:
    from PIL import Image, ImageDraw

    from ..data.files import write_png

    values = [float(v) for v in loss["loss"]] or [0.0]
    width, height, margin = 640, 320, 16
    low, span = min(values), (max(values) - min(values)) or 1.0
    image = Image.new("RGB", (width, height), "white")
    points = [
        (
            margin + i * (width - 2 * margin) / max(1, len(values) - 1),
            height - margin - (v - low) / span * (height - 2 * margin),
        )
        for i, v in enumerate(values)
    ]
    draw = ImageDraw.Draw(image)
    if len(points) > 1:
        draw.line(points, fill=(64, 110, 190), width=2)
    draw.text((margin, 2), f"loss {values[0]:.4g} -> {values[-1]:.4g}", fill="black")
    path = _free_name(host, filename_prefix, "{}_.png")
    write_png(path, image)
    log.info("saved %s", path)
    return ()


def _empty_image(
    host: Host, width: int, height: int, batch_size: int, color: int
) -> tuple[Any, ...]:
    import torch

    channels = [(color >> shift & 255) / 255 for shift in (16, 8, 0)]
    return (torch.tensor(channels).expand(batch_size, height, width, 3).contiguous(),)


def _blend(
    host: Host, image1: Any, image2: Any, blend_factor: float, blend_mode: str
) -> tuple[Any, ...]:
    if image1.shape[1:] != image2.shape[1:]:
        sizes = [f"{image.shape[2]} x {image.shape[1]}" for image in (image1, image2)]
        raise InputError(
            "image2",
            f"it has {sizes[1]} pixels and image1 {sizes[0]}",
            "Outside of ComfyUI, both must have one size.",
        )
    second = image1 * image2 if blend_mode == "multiply" else image2
    return ((image1 * (1 - blend_factor) + second * blend_factor).clamp(0, 1),)


def _primitive(kind: str, default: Any, multiline: bool = False) -> Stage:
    return Stage(
        lambda host, value: (value,),
        kind.title(),
        "A value.",
        (Input("value", kind, "The value.", default=default, multiline=multiline),),
        (Output("value", kind),),
    )


_PREFIX = Input("filename_prefix", "STRING", "Start of the file's name.", default="ComfyUI")
_IMAGES = Input("images", "IMAGE", "The images.")

STOCK: dict[str, Stage] = {
    "PreviewImage": Stage(
        _save_image,
        "Preview Image",
        "Shows images.",
        (_IMAGES,),
        (Output("images", "IMAGE"),),
        True,
    ),
    "SaveImage": Stage(
        _save_image,
        "Save Image",
        "Saves images.",
        (_IMAGES, _PREFIX),
        (Output("images", "IMAGE"),),
        True,
    ),
    "PreviewAny": Stage(
        _preview_any,
        "Preview as Text",
        "Shows anything as text.",
        (Input("source", "*", "Anything."),),
        (Output("STRING", "STRING"),),
        True,
    ),
    "SaveLoRA": Stage(
        _save_lora,
        "Save LoRA Weights",
        "Saves a LoRA.",
        (
            Input("lora", "LORA_MODEL", "The LoRA."),
            Input(
                "prefix",
                "STRING",
                "Start of the file's name.",
                default="loras/ComfyUI_trained_lora",
            ),
            Input("steps", "INT", "Steps that it was trained for.", optional=True),
        ),
        (),
        True,
    ),
    "LossGraphNode": Stage(
        _loss_graph,
        "Plot Loss Graph",
        "Draws the loss.",
        (Input("loss", "LOSS_MAP", "The losses."), _PREFIX),
        (),
        True,
    ),
    "EmptyImage": Stage(
        _empty_image,
        "Empty Image",
        "Makes images of one colour.",
        (
            Input("width", "INT", "In pixels.", default=512, min=1, max=16384),
            Input("height", "INT", "In pixels.", default=512, min=1, max=16384),
            Input("batch_size", "INT", "How many.", default=1, min=1, max=4096),
            Input("color", "INT", "0xRRGGBB as a number.", default=0, min=0, max=0xFFFFFF),
        ),
        (Output("IMAGE", "IMAGE"),),
    ),
    "ImageBlend": Stage(
        _blend,
        "Blend Images",
        "Mixes two images.",
        (
            Input("image1", "IMAGE", "The first."),
            Input("image2", "IMAGE", "The second."),
            Input("blend_factor", "FLOAT", "Share of the second.", default=0.5, min=0.0, max=1.0),
            Input("blend_mode", "COMBO", "How.", default="normal", options=("normal", "multiply")),
        ),
        (Output("IMAGE", "IMAGE"),),
    ),
    "PrimitiveInt": _primitive("INT", 0),
    "PrimitiveFloat": _primitive("FLOAT", 0.0),
    "PrimitiveString": _primitive("STRING", ""),
    "PrimitiveStringMultiline": _primitive("STRING", "", multiline=True),
    "PrimitiveBoolean": _primitive("BOOLEAN", False),
}
