"""Images as tensors and as PIL images, and several of them on one sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def to_pil(images: Tensor) -> list[Image.Image]:
    """Convert images ``[n, h, w, 3]`` in [0, 1] to 8-bit RGB."""
    from PIL import Image

    arrays = (images * 255).round().clamp(0, 255).byte().cpu().numpy()
    return [Image.fromarray(array) for array in arrays]


def image_tensor(images: Sequence[Image.Image]) -> Tensor:
    """Convert images of one size to ComfyUI's IMAGE: float32 ``[n, h, w, 3]`` in [0, 1]."""
    import numpy as np
    import torch

    arrays = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(arrays.copy()).float() / 255


def contact_sheet(
    images: Sequence[Image.Image], columns: int, gap: int = 2, max_side: int = 256
) -> Image.Image:
    """Lay out images of one size on white, row after row.

    Args:
        images: at least one.
        columns: images in a row, at most.
        gap: pixels between them.
        max_side: larger images are reduced to this, in pixels.
    """
    from PIL import Image

    images = [image.copy() for image in images]
    for image in images:
        image.thumbnail((max_side, max_side), Image.Resampling.BOX)
    width, height = images[0].size
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for i, image in enumerate(images):
        sheet.paste(image, (gap + i % columns * (width + gap), gap + i // columns * (height + gap)))
    return sheet
