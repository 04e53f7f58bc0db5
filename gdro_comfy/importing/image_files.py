"""Images made elsewhere: read from a file or a tensor, and made the size of a run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_ENLARGEMENT = 4.0
"""How many times an image may be enlarged; beyond it there is only blur to learn from."""

_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_MULTI_FRAME_FORMATS = ("PNG", "WEBP", "TIFF", "GIF")
_EXIF_ORIENTATION = 0x0112
_EXIF_IFD = 0x8769
_OTHER_METADATA = {
    "parameters": "the parameters of A1111 or Forge",
    "invokeai_metadata": "metadata of InvokeAI",
    "sd-metadata": "metadata of InvokeAI",
    "Comment": "metadata of another program, such as NovelAI",
    "workflow": "a workflow of ComfyUI without the graph that ran",
}
"""What texts of a file mean that is not ComfyUI's graph."""
_QUARTER_TURNS = (5, 6, 7, 8)  # orientations that swap width and height


class UnusableImage(ValueError):
    """An image that cannot be used; the message says why."""


@dataclass(frozen=True)
class SourceImage:
    """An image to import.

    Args:
        name: for messages, such as "cats/1.png".
        key: digest of its contents; empty if there are none to compare.
        size: width and height in pixels; (0, 0) if it cannot be read.
        load: returns it as 8-bit RGB, or raises ``UnusableImage``.
        metadata: the graph that ComfyUI stored in it, as JSON.
        other_metadata: what the file has instead of a graph, in words; empty if nothing is recognised.
    """

    name: str
    key: str
    size: tuple[int, int]
    load: Callable[[], Image.Image]
    metadata: str | None = None
    other_metadata: str = ""


def from_file(path: Path, name: str) -> SourceImage:
    """Describe an image file, decoding only its header; ``load`` reports what is wrong with it."""
    try:
        data = _read(path)
    except UnusableImage as error:
        return _unusable(name, str(error))
    key = hashlib.sha256(data).hexdigest()

    def load() -> Image.Image:
        current = _read(path)
        if hashlib.sha256(current).hexdigest() != key:
            raise UnusableImage("it changed while the pictures were being read; run again")
        return decode(current)

    try:
        size, metadata, other = _header(data)
    except UnusableImage as error:
        return _unusable(name, str(error), key)
    return SourceImage(name, key, size, load, metadata, other)


def from_tensor(image: Tensor, name: str) -> SourceImage:
    """Describe an image of the graph: ``[h, w, channels]`` in [0, 1]; grey, RGB or RGBA."""
    import torch
    from PIL import Image

    image = image.detach().float().cpu()
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.numel():
        shape = " x ".join(str(side) for side in image.shape)
        return _unusable(name, f"its shape ({shape}) is not height x width x 1, 3 or 4 channels")
    if not torch.isfinite(image).all():
        return _unusable(name, "it has values that are not finite numbers")
    array = (image.clamp(0, 1) * 255).round().byte().numpy()
    rgb = _rgb(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))
    key = hashlib.sha256(repr(rgb.size).encode() + rgb.tobytes()).hexdigest()
    return SourceImage(name, key, rgb.size, lambda: rgb)


def _unusable(name: str, reason: str, key: str = "") -> SourceImage:
    def load() -> Image.Image:
        raise UnusableImage(reason)

    return SourceImage(name, key, (0, 0), load)


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UnusableImage(f"it is larger than {MAX_FILE_BYTES // 1024**2} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnusableImage(f"it cannot be read ({error.strerror})") from error


def _open(data: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """Read the header of an image; also return the size that it has when turned upright."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        frames = getattr(image, "n_frames", 1) if image.format in _MULTI_FRAME_FORMATS else 1
        # PngImageFile.getexif would decode the whole image first.
        orientation = Image.Image.getexif(image).get(_EXIF_ORIENTATION, 1)
    except UnidentifiedImageError as error:
        raise UnusableImage("it is damaged, or not a picture of a supported format") from error
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise UnusableImage(f"it cannot be read ({error})") from error
    if frames > 1:
        raise UnusableImage(f"it has {frames} frames or pages; use a still picture")
    turned = orientation in _QUARTER_TURNS
    return image, (image.height, image.width) if turned else image.size


def _header(data: bytes) -> tuple[tuple[int, int], str | None, str]:
    """Return an image's size, the graph that ComfyUI stored in it, and what it has instead, in words.

    PNG files have the graph as a text "prompt", WebP and JPEG as a text "prompt:..." in EXIF.
    """
    image, size = _open(data)
    texts = {str(key): value for key, value in image.info.items() if isinstance(value, str)}
    metadata = texts.get("prompt") if image.format == "PNG" else None
    if metadata is None:
        metadata = next(_exif_graphs(image), None)
    other = next((words for key, words in _OTHER_METADATA.items() if key in texts), "")
    return size, metadata, other if metadata is None else ""


def _exif_graphs(image: Image.Image) -> Iterator[str]:
    """Yield the texts of an image's EXIF that are marked as ComfyUI's graph."""
    from PIL import Image

    exif = Image.Image.getexif(image)
    try:
        values = [*exif.values(), *exif.get_ifd(_EXIF_IFD).values()]
    except Exception:  # decoders raise all kinds of errors on damaged EXIF
        values = list(exif.values())
    for value in values:
        text = _exif_text(value)
        if text[:7].lower() == "prompt:" and text[7:].lstrip().startswith("{"):
            yield text[7:]


def _exif_text(value: object) -> str:
    """Return a text of EXIF, also a user comment, which starts with the name of its encoding."""
    if isinstance(value, str):
        return value.strip("\0 ")
    if not isinstance(value, bytes):
        return ""
    code, text = value[:8], value[8:]
    if code == b"UNICODE\0":
        order = "utf-16-be" if text[:1] == b"\0" else "utf-16-le"
        return text.decode(order, "replace").strip("\ufeff\0 ")
    return (text if code == b"ASCII\0\0\0" else value).decode("utf-8", "replace").strip("\0 ")


def decode(data: bytes) -> Image.Image:
    """Decode an image file as 8-bit RGB, turned as its EXIF says, transparent parts on white.

    Raises:
        UnusableImage: it is damaged, truncated, animated or of an unsupported format.
    """
    image, _ = _open(data)
    try:
        image.load()
        return _rgb(image)
    except UnusableImage:
        raise
    except Exception as error:  # decoders raise all kinds of errors on damaged files
        raise UnusableImage(f"it is damaged or cut short ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UnusableImage("its values are floating point; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((levels // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def size_problem(size: tuple[int, int], target: tuple[int, int]) -> str | None:
    """Return why an image of this size cannot be scaled to the target's, or None."""
    scale = _scale(size, target)
    if scale <= MAX_ENLARGEMENT:
        return None
    return (
        f"{size[0]} x {size[1]} pixels would be enlarged {scale:.3g} times to fill "
        f"{target[0]} x {target[1]}; at most {MAX_ENLARGEMENT:g} times is allowed"
    )


def crop_fraction(size: tuple[int, int], target: tuple[int, int]) -> float:
    """Return the part of an image's area, up to 1, that ``fit`` keeps."""
    scale = _scale(size, target)
    return target[0] * target[1] / (scale**2 * size[0] * size[1])


def _scale(size: tuple[int, int], target: tuple[int, int]) -> float:
    return max(target[0] / size[0], target[1] / size[1])


def fit(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Scale an image to cover the target (width, height), and crop it around its centre."""
    from PIL import Image, ImageOps

    if image.size == target:
        return image
    return ImageOps.fit(image, target, Image.Resampling.LANCZOS)
