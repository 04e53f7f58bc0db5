"""Images as tensors and as pictures, and several of them on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def to_pil(images: Tensor) -> list[Image.Image]:
    """Images ``[n, h, w, 3]`` in [0, 1] as 8-bit RGB pictures."""
    from PIL import Image

    arrays = (images * 255).round().clamp(0, 255).byte().cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def contact_sheet(
    images: Sequence[Image.Image], columns: int, gap: int = 2, largest: int = 256
) -> Image.Image:
    """Pictures of one size side by side on white, row after row; reduced to ``largest`` pixels a
    side where they are larger."""
    from PIL import Image

    images = [image.copy() for image in images]
    for image in images:
        image.thumbnail((largest, largest), Image.Resampling.BOX)
    width, height = images[0].size
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return sheet


def image_tensor(pictures: Sequence[Image.Image]) -> Tensor:
    """Pictures of one size as ComfyUI's IMAGE: float32 ``[n, h, w, 3]`` in [0, 1]."""
    import numpy as np
    import torch

    arrays = np.stack([np.asarray(picture.convert("RGB")) for picture in pictures])
    return torch.from_numpy(arrays.copy()).float() / 255
