"""Preference models: what people liked, learnt from many choices between pictures.

Each with its published preprocessing and formula. ``range`` is where good and bad pictures lie in
practice, brought to 0 and 1; a value may lie a little outside, nothing is cut off.
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
from .base import RewardError, RewardResult

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from torch import nn

_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_BATCH = 16
_CLIP_L = "openai/clip-vit-large-patch14"


@dataclass(frozen=True)
class Preference:
    """A preference model.

    Args:
        name: of the reward.
        hub: where its weights are.
        tokenizer: where the words it knows are.
        low, high: its own scale at 0 and at 1.
        whole: the picture is shown whole, with black margins; else its middle, cut square.
        tokens: longest text; the rest is cut off.
        padded: short texts are filled up to that length.
    """

    name: str
    hub: str
    tokenizer: str
    low: float
    high: float
    whole: bool = False
    tokens: int = 77
    padded: bool = False


PREFERENCES = {
    "PickScore": Preference("pickscore", "yuvalkirstain/PickScore_v1", _CLIP_L, 16.0, 26.0),
    "HPSv2.1": Preference("hpsv21", "RE-N-Y/hpsv21", _CLIP_L, 0.15, 0.35, whole=True),
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
    """What a preference model thinks of a picture, and of how it fits its prompt.

    Args:
        kind: a key of ``PREFERENCES``.
        folder: with the weights and the tokenizer; None uses the hub's copy.
        download: the hub's copy may be fetched if it is not on this machine.
        device: where to compute, in float32.

    Raises:
        InputError: there is no such model, or the folder is none.
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
        where = self.model.hub if folder is None else pretrained.fingerprint(folder)
        scale = [self.model.low, self.model.high]
        self.settings: dict[str, Any] = {"weights": where, "scale": scale}
        self._network = pretrained.Network(self._load, device)
        self._tokenizer: Any = None

    def active(self) -> AbstractContextManager[Any]:
        """Within this context the network stays on its device."""
        return self._network.held()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if the model's parts are not here and may not be fetched. Any prompt
        will do."""
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
        """Details: "score", on the model's own scale.

        Raises:
            RewardError: an image cannot be read.
        """
        import torch

        self.check_prompts(prompts)
        found: list[float] = []
        with self._network.active() as network:
            for start in range(0, len(images), _BATCH):
                check_cancelled()
                batch = prompts[start : start + _BATCH]
                side = int(network.image_size)
                pixels = []
                for i, image in enumerate(images[start : start + _BATCH]):
                    try:
                        pixels.append(prepare(image, side, self.model.whole))
                    except (OSError, ValueError) as error:
                        raise RewardError(
                            f"{self.name}: image {start + i} of {batch[i].text!r} cannot be read: "
                            f"{error}"
                        ) from error
                words = self._tokenizer(
                    [prompt.text for prompt in batch],
                    padding="max_length" if self.model.padded else True,
                    truncation=True,
                    max_length=min(self.model.tokens, int(network.tokens)),
                    return_tensors="pt",
                )
                seen = torch.from_numpy(np.stack(pixels)).to(self.device)
                ids, mask = (words[k].to(self.device) for k in ("input_ids", "attention_mask"))
                found += network(seen, ids, mask).float().cpu().tolist()
        native = np.array(found, dtype=np.float64)
        values = (native - self.model.low) / (self.model.high - self.model.low)
        details = [{"score": round(value, 4)} for value in found]
        return RewardResult(values.astype(np.float32), details)

    def _sources(self) -> dict[str, Path | str]:
        """Where the parts of the network lie; fetches what may be fetched. Raises ``InputError``."""
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
        made: Any
        clip: Any
        vision: Any
        if "file" not in sources:
            clip = pretrained.load_model(CLIPModel, sources["clip"], **options)
            scale = "logit" if self.kind == "PickScore" else "percent"
            made = networks.CLIPScorer(clip, scale)
            vision, made.tokens = clip.config.vision_config, _text_length(clip)
        else:
            weights = load_file(sources["file"])
            try:
                if self.kind == "HPSv2.1":
                    clip = networks.clip_from_open_clip(weights)
                    made = networks.CLIPScorer(clip, "cosine")
                    vision, made.tokens = clip.config.vision_config, _text_length(clip)
                elif self.kind == "ImageReward":
                    made = networks.image_reward(weights)
                    vision, made.tokens = made.vision.config, self.model.tokens
                else:
                    head = networks.linear_head(weights)
                    clip = pretrained.load_model(CLIPModel, sources["clip"], **options)
                    made = networks.AestheticScorer(clip.vision_model, clip.visual_projection, head)
                    vision, made.tokens = clip.config.vision_config, self.model.tokens
            except InputError:
                raise
            except (ValueError, KeyError, RuntimeError) as error:
                raise InputError(
                    "weights",
                    f"{sources['file']} does not hold {self.kind} ({error})",
                    "Choose the folder of that model, or another kind.",
                ) from error
        made.image_size = vision.image_size
        return made


def _text_length(clip: Any) -> int:
    return clip.config.text_config.max_position_embeddings


def prepare(image: Image.Image, side: int, whole: bool) -> np.ndarray:
    """A picture as CLIP wants it: float32 ``[3, side, side]``, normalised by CLIP's mean and deviation.

    The shorter side becomes ``side`` (bicubic) and the middle is cut out; with ``whole`` the longer
    side becomes ``side``, with black margins.
    """
    from PIL import Image as images

    image = image.convert("RGB")
    width, height = image.size
    if whole:
        scale = side / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        sheet = images.new("RGB", (side, side))
        corner = (side - size[0]) // 2, (side - size[1]) // 2
        sheet.paste(image.resize(size, images.Resampling.BICUBIC), corner)
        image = sheet
    else:
        short = min(width, height)
        size = int(width * side / short), int(height * side / short)
        image = image.resize(size, images.Resampling.BICUBIC)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    pixels = np.asarray(image, dtype=np.float32) / 255
    mean, std = np.array(_CLIP_MEAN, np.float32), np.array(_CLIP_STD, np.float32)
    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1))
