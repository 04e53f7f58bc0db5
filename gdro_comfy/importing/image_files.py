"""Pictures that were made elsewhere: read, whatever kind of file they are, and made the size of a run."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
_MANY_FRAMES = ("PNG", "WEBP", "TIFF", "GIF")
_ORIENTATION = 0x0112  # EXIF's tag
LARGEST_FILE = 256 * 1024 * 1024
MOST_ENLARGED = 4.0
"""How many times a picture may be enlarged; beyond it is only blur to learn from."""


class UnusablePicture(ValueError):
    """This picture cannot be used; the message says why."""


@dataclass(frozen=True)
class Picture:
    """One picture to import.

    Args:
        name: for messages: "cats/1.png".
        key: digest of its contents.
        size: width and height in pixels; (0, 0) where it cannot be read.
        load: gives it as 8-bit RGB, or raises ``UnusablePicture``.
        metadata: the graph that ComfyUI left in a PNG, as JSON.
    """

    name: str
    key: str
    size: tuple[int, int]
    load: Callable[[], Image.Image]
    metadata: str | None = None


def from_file(path: Path, name: str) -> Picture:
    """A picture file; what is wrong with it is told by ``load``. Only its header is decoded here."""
    try:
        data = _read(path)
    except UnusablePicture as error:
        return Picture(name, "", (0, 0), _refusing(str(error)))
    key = hashlib.sha256(data).hexdigest()

    def load() -> Image.Image:
        again = _read(path)
        if hashlib.sha256(again).hexdigest() != key:
            raise UnusablePicture("it was changed while the pictures were read; run again")
        return decode(again)

    try:
        size, metadata = _header(data)
    except UnusablePicture as error:
        return Picture(name, key, (0, 0), _refusing(str(error)))
    return Picture(name, key, size, load, metadata)


def from_tensor(image: Tensor, name: str) -> Picture:
    """One picture of the graph: ``[h, w, channels]`` in [0, 1], grey, RGB or RGBA."""
    import torch
    from PIL import Image

    image = image.detach().float().cpu()
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or not image.numel():
        shape = " x ".join(str(side) for side in image.shape)
        return Picture(name, "", (0, 0), _refusing(f"{shape} is no picture of 1, 3 or 4 channels"))
    if not torch.isfinite(image).all():
        return Picture(name, "", (0, 0), _refusing("it holds values that are no finite numbers"))
    array = (image.clamp(0, 1) * 255).round().byte().numpy()
    picture = _rgb(Image.fromarray(array[..., 0] if array.shape[2] == 1 else array))
    key = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
    return Picture(name, key, picture.size, lambda: picture)


def _refusing(reason: str) -> Callable[[], Image.Image]:
    def load() -> Image.Image:
        raise UnusablePicture(reason)

    return load


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise UnusablePicture(f"it has more than {LARGEST_FILE // 1024**2} MB")
        return path.read_bytes()
    except OSError as error:
        raise UnusablePicture(f"it cannot be read ({error.strerror})") from error


def _open(data: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """A picture whose header is read, and the size that it has once it is turned upright."""
    from PIL import Image, UnidentifiedImageError

    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
        frames = getattr(image, "n_frames", 1) if image.format in _MANY_FRAMES else 1
        # Not a PNG's own, which decodes the whole picture first.
        turned = Image.Image.getexif(image).get(_ORIENTATION, 1) in (5, 6, 7, 8)
    except UnidentifiedImageError as error:
        raise UnusablePicture("it is no picture of a known kind, or it is damaged") from error
    except Exception as error:  # whatever a decoder makes of a damaged file
        raise UnusablePicture(f"it cannot be read ({error})") from error
    if frames > 1:
        raise UnusablePicture(f"it has {frames} frames or pages; use a still picture")
    return image, (image.height, image.width) if turned else image.size


def _header(data: bytes) -> tuple[tuple[int, int], str | None]:
    image, size = _open(data)
    metadata = image.info.get("prompt") if image.format == "PNG" else None
    return size, metadata if isinstance(metadata, str) else None


def decode(data: bytes) -> Image.Image:
    """A picture file as 8-bit RGB, turned as its EXIF says, transparent parts on white.

    Raises:
        UnusablePicture: it is damaged or cut short, animated, or of a kind that is not known here.
    """
    image, _ = _open(data)
    try:
        image.load()
        return _rgb(image)
    except UnusablePicture:
        raise
    except Exception as error:  # as above
        raise UnusablePicture(f"it is damaged or cut short ({error})") from error


def _rgb(image: Image.Image) -> Image.Image:
    import numpy as np
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise UnusablePicture("its values are floating point; save it with 8 or 16 bits")
    if image.mode == "I" or image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.int64).clip(0, 65535)
        image = Image.fromarray((levels // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def check_size(size: tuple[int, int], target: tuple[int, int]) -> str | None:
    """Why a picture of this size cannot be made one of the target's, or None."""
    scale = _scale(size, target)
    if scale <= MOST_ENLARGED:
        return None
    return (
        f"{size[0]} x {size[1]} pixels would be enlarged {scale:.3g} times to fill "
        f"{target[0]} x {target[1]}; {MOST_ENLARGED:g} times is allowed"
    )


def kept_by_crop(size: tuple[int, int], target: tuple[int, int]) -> float:
    """The part of a picture's area that is left when it is cropped to the target's shape, up to 1."""
    scale = _scale(size, target)
    return target[0] * target[1] / (scale**2 * size[0] * size[1])


def _scale(size: tuple[int, int], target: tuple[int, int]) -> float:
    return max(target[0] / size[0], target[1] / size[1])


def fit(image: Image.Image, target: tuple[int, int]) -> Image.Image:
    """Scaled to cover the target (width, height), and what stands out cut off on both sides alike."""
    from PIL import Image, ImageOps

    if image.size == target:
        return image
    return ImageOps.fit(image, target, Image.Resampling.LANCZOS)
