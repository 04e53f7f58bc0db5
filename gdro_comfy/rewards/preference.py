"""Preference models: what people liked, learnt from many choices between images.

Each has its published preprocessing and formula. Its scale runs from 0 to 1 between the values that poor and
excellent images reach in practice; nothing is clipped, so a value may lie a little outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.prompts import Prompt
from ..errors import InputError
from . import pretrained
from .base import RewardResult, naming_image

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_BATCH = 16
_CLIP_L = "openai/clip-vit-large-patch14"


@dataclass(frozen=True)
class Preference:
    """A preference model.

    Args:
        name: of the reward.
        hub: the repository with its weights.
        tokenizer: the repository with its tokenizer.
        low, high: values on its own scale that become 0 and 1.
        letterbox: it sees the whole image, with black margins; otherwise a square cut from the middle.
        tokens: the longest text; the rest is cut off.
        padded: shorter texts are padded to that length.
    """

    name: str
    hub: str
    tokenizer: str
    low: float
    high: float
    letterbox: bool = False
    tokens: int = 77
    padded: bool = False


PREFERENCES = {
    "PickScore": Preference("pickscore", "yuvalkirstain/PickScore_v1", _CLIP_L, 16.0, 26.0),
    "HPSv2.1": Preference("hpsv21", "RE-N-Y/hpsv21", _CLIP_L, 0.15, 0.35, letterbox=True),
    "ImageReward": Preference(
        "imagereward",
        "RE-N-Y/ImageReward",
        "google-bert/bert-base-uncased",
        -2.0,
        2.0,
        tokens=35,
        padded=True,
    ),
    "CLIP score": Preference("clipscore", _CLIP_L, _CLIP_L, 15.0, 35.0),
    "LAION aesthetic": Preference("aesthetic", "RE-N-Y/laion-aesthetic", _CLIP_L, 3.0, 8.0),
}


class PreferenceReward:
    """What a preference model thinks of an image, and of how it fits its prompt.

    Args:
        kind: a key of ``PREFERENCES``.
        folder: with the weights and the tokenizer; None takes those on the hub.
        download: what is on the hub may be downloaded if it is not on this machine.
        device: where to compute, in float32.

    >>> PreferenceReward("PickScore").score([image], [Prompt("a red fox")]).details  # doctest: +SKIP
    [{'score': 21.2374}]

    Raises:
        InputError: there is no such model.
    """

    range = (0.0, 1.0)

    def __init__(
        self,
        kind: str,
        folder: Path | None = None,
        download: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        if kind not in PREFERENCES:
            raise InputError(
                "kind", f"there is no {kind!r}", f"Use one of {', '.join(PREFERENCES)}."
            )
        self.kind, self.folder, self.download, self.device = kind, folder, download, device
        self.model = PREFERENCES[kind]
        self.name = self.model.name
        weights = self.model.hub if folder is None else pretrained.fingerprint(folder)
        scale = [self.model.low, self.model.high]
        self.settings: dict[str, Any] = {"weights": weights, "scale": scale}
        self._network = pretrained.Network(self._load, device)
        self._tokenizer: Any = None

    def active(self) -> AbstractContextManager[Any]:
        """Keep the network on its device within this context."""
        return self._network.resident()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if a part is missing and may not be downloaded; every prompt is suitable."""
        if self._tokenizer is None:
            from transformers import AutoTokenizer

            source = self.folder or self.model.tokenizer
            self._tokenizer = pretrained.load(AutoTokenizer, source, self.download)
        if not self._network.loaded:
            self._sources()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are "score", the value on the model's own scale.

        Raises:
            RewardError: an image cannot be read.
        """
        import torch

        self.check_prompts(prompts)
        scores: list[float] = []
        with self._network.active() as network:
            for start in range(0, len(images), _BATCH):
                check_cancelled()
                batch = slice(start, start + _BATCH)
                pixels = []
                for i, image in enumerate(images[batch], start):
                    with naming_image(self, i, prompts[i], OSError, ValueError):
                        pixels.append(preprocess(image, network.image_size, self.model.letterbox))
                text = self._tokenizer(
                    [prompt.text for prompt in prompts[batch]],
                    padding="max_length" if self.model.padded else True,
                    truncation=True,
                    max_length=min(self.model.tokens, network.tokens),
                    return_tensors="pt",
                ).to(self.device)
                output = network(
                    torch.from_numpy(np.stack(pixels)).to(self.device),
                    text["input_ids"],
                    text["attention_mask"],
                )
                scores += output.float().cpu().tolist()
        own_scale = np.array(scores, dtype=np.float64)
        values = (own_scale - self.model.low) / (self.model.high - self.model.low)
        details = [{"score": round(score, 4)} for score in scores]
        return RewardResult(values.astype(np.float32), details)

    def _sources(self) -> dict[str, Path | str]:
        """Return where the parts of the network are, downloaded if allowed; else raise ``InputError``."""
        if self.kind in ("PickScore", "CLIP score"):
            return {"clip": self.folder or self.model.hub}
        file = pretrained.weight_file(self.folder or self.model.hub, self.name, self.download)
        return {"file": file, "clip": self.folder or _CLIP_L}

    def _load(self) -> nn.Module:
        import torch
        from safetensors.torch import load_file
        from transformers import CLIPModel

        from . import preference_networks as networks

        sources = self._sources()
        options = {"download": self.download, "dtype": torch.float32}
        network: Any
        clip: Any
        vision: Any
        if "file" not in sources:
            clip = pretrained.load_model(CLIPModel, sources["clip"], **options)
            scale = "logit" if self.kind == "PickScore" else "percent"
            network = networks.CLIPScorer(clip, scale)
            vision, network.tokens = clip.config.vision_config, _text_length(clip)
        else:
            weights = load_file(sources["file"])
            try:
                if self.kind == "HPSv2.1":
                    clip = networks.clip_from_open_clip(weights)
                    network = networks.CLIPScorer(clip, "cosine")
                    vision, network.tokens = clip.config.vision_config, _text_length(clip)
                elif self.kind == "ImageReward":
                    network = networks.image_reward(weights)
                    vision, network.tokens = network.vision.config, self.model.tokens
                else:
                    head = networks.linear_head(weights)
                    clip = pretrained.load_model(CLIPModel, sources["clip"], **options)
                    network = networks.AestheticScorer(
                        clip.vision_model, clip.visual_projection, head
                    )
                    vision, network.tokens = clip.config.vision_config, self.model.tokens
            except InputError:
                raise
            except (ValueError, KeyError, RuntimeError) as error:
                raise InputError(
                    "weights",
                    f"{sources['file']} does not hold {self.kind} ({error})",
                    "Choose the folder of that model, or another kind.",
                ) from error
        network.image_size = vision.image_size
        return network


def _text_length(clip: Any) -> int:
    return clip.config.text_config.max_position_embeddings


def preprocess(image: Image.Image, side: int, letterbox: bool = False) -> np.ndarray:
    """Return an image as CLIP wants it: float32 ``[3, side, side]``, normalised.

    The shorter side becomes ``side`` (bicubic), and a square is cut from the middle. With ``letterbox`` the
    longer side becomes ``side``, with black margins.
    """
    import transformers
    from PIL import Image

    image = image.convert("RGB")
    if letterbox:
        scale = side / max(image.size)
        width, height = (max(1, round(length * scale)) for length in image.size)
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        # Not ImageOps.pad: it rounds margins otherwise, and fails on lines of one pixel.
        image = Image.new("RGB", (side, side))
        image.paste(resized, ((side - width) // 2, (side - height) // 2))
    # Since transformers 5.4, the plain name needs torchvision.
    pil_backend = getattr(transformers, "CLIPImageProcessorPil", None)
    processor = (pil_backend or transformers.CLIPImageProcessor)(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    )
    # Older versions take an image of 1 or 3 pixels in height for channels unless told.
    batch = processor(image, input_data_format="channels_last", return_tensors="np")
    return batch["pixel_values"][0]
