"""Networks that describe an image by a vector: DINOv2 and v3 its looks, SigLIP 2 and CLIP its content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from . import pretrained

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

BATCH = 16
_DINO_SIDE = 224  # pixels; its position embeddings adapt to any size

HUB = {
    "DINOv2": "facebook/dinov2-base",
    "SigLIP 2": "google/siglip2-base-patch16-224",
    "CLIP": "openai/clip-vit-large-patch14",
}
"""Networks on the Hugging Face hub by the name shown to users."""


@dataclass(frozen=True)
class _Family:
    """How networks of a kind are loaded and what they expect.

    Args:
        model: the class of transformers.
        mean, deviation: of the channels in [0, 1], subtracted and divided by.
        whole: it sees the whole image, squeezed to a square; otherwise the central square.
        resizable: the network takes another size than its configuration's.
    """

    model: str
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]
    whole: bool = False
    resizable: bool = False


_DINO = _Family("AutoModel", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), resizable=True)
_CLIP = _Family(
    "CLIPVisionModelWithProjection",
    (0.48145466, 0.4578275, 0.40821073),
    (0.26862954, 0.26130258, 0.27577711),
)
_SIGLIP = _Family("SiglipVisionModel", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), whole=True)
_FAMILIES = {
    "dinov2": _DINO,
    "dinov2_with_registers": _DINO,
    "dinov3_vit": _DINO,
    "dinov3_convnext": _DINO,
    "clip": _CLIP,
    "clip_vision_model": _CLIP,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
}
"""``model_type`` of a configuration -> its family."""


class ImageEmbedder:
    """A network that turns images into vectors of length 1.

    Args:
        source: a folder in transformers' layout, or a repository on the Hugging Face hub.
        download: a repository that is not on this machine may be downloaded.
        device: where to compute, in float32.
        input_name: the input to name in messages.
    """

    def __init__(
        self,
        source: Path | str,
        download: bool = False,
        device: torch.device | str = "cpu",
        input_name: str = "folder",
    ) -> None:
        self.source, self.download, self.device = source, download, device
        self._input = input_name
        self.identity: Any = source if isinstance(source, str) else pretrained.fingerprint(source)
        self._network = pretrained.Network(self._load, device)
        self._config: Any = None

    def active(self) -> AbstractContextManager[Any]:
        """Keep the network on its device within this context."""
        return self._network.resident()

    def check(self) -> None:
        """Raise ``InputError`` if the network is missing, or is of another kind, before any work."""
        self._family()

    def _family(self) -> _Family:
        if self._config is None:
            from transformers import AutoConfig

            self._config = pretrained.load(AutoConfig, self.source, self.download, self._input)
        kind = self._config.model_type
        if kind not in _FAMILIES:
            raise InputError(
                self._input,
                f"{self.source} is a network of the kind {kind}, which does not describe images",
                "Choose a DINOv2, DINOv3, CLIP or SigLIP (of SigLIP 2 one of a fixed size, not NaFlex).",
            )
        return _FAMILIES[kind]

    def _load(self) -> nn.Module:
        import torch
        import transformers

        kind, config = getattr(transformers, self._family().model), self._config
        if hasattr(config, "vision_config"):
            # The width of the common space is outside of the part that describes the images.
            if hasattr(config, "projection_dim"):
                config.vision_config.projection_dim = config.projection_dim
            config = config.vision_config
        verbosity = transformers.logging.get_verbosity()
        # It would list the weights of the text part, which nobody needs here, one by one.
        transformers.logging.set_verbosity_error()
        try:
            return pretrained.load_model(
                kind, self.source, self.download, self._input, dtype=torch.float32, config=config
            )
        finally:
            transformers.logging.set_verbosity(verbosity)

    def embed(
        self, images: Sequence[Image.Image], check_cancelled: Callable[[], None] = lambda: None
    ) -> np.ndarray:
        """Return float32 ``[n, width]``, each of length 1."""
        import torch

        family, parts = self._family(), []
        with self._network.active() as network:
            for start in range(0, len(images), BATCH):
                check_cancelled()
                pixels = np.stack(
                    [
                        prepare(image, self._side(network), family)
                        for image in images[start : start + BATCH]
                    ]
                )
                output = network(pixel_values=torch.from_numpy(pixels).to(self.device))
                vectors = getattr(output, "image_embeds", None)
                if vectors is None:
                    vectors = output.pooler_output
                vectors = torch.nn.functional.normalize(vectors.float().flatten(1), dim=1)
                parts.append(vectors.cpu().numpy())
        return np.concatenate(parts)

    def _side(self, network: Any) -> int:
        """Return the side of the square that the network sees, in pixels."""
        config = network.config
        if not self._family().resizable:
            return config.image_size
        patch = getattr(config, "patch_size", 1)
        return min(getattr(config, "image_size", _DINO_SIDE), _DINO_SIDE) // patch * patch


def prepare(image: Image.Image, side: int, family: _Family) -> np.ndarray:
    """Return an image as a network wants it: float32 ``[3, side, side]``, normalised.

    Transparent parts become white.
    """
    from PIL import Image, ImageOps

    image = on_white(image)
    shape = (side, side)
    if family.whole:
        square = image.resize(shape, Image.Resampling.BICUBIC)
    else:
        square = ImageOps.fit(image, shape, Image.Resampling.BICUBIC)
    pixels = np.asarray(square, np.float32) / 255
    pixels = (pixels - np.array(family.mean, np.float32)) / np.array(family.deviation, np.float32)
    return pixels.transpose(2, 0, 1)


def on_white(image: Image.Image) -> Image.Image:
    """Return an RGB image; transparent parts become white."""
    from PIL import Image

    if "A" not in image.getbands():
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
