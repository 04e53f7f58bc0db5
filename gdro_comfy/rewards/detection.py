"""Finds things by their names in photographs: OWLv2 or Grounding DINO through transformers, and CLIP for
their colours. Where things stand is GenEval's rule of boxes (arXiv 2310.11513)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from . import pretrained
from .composition_prompts import PHOTO_COLORS
from .preference import prepare
from .shapes import Detection

if TYPE_CHECKING:
    import torch
    from PIL import Image

DETECTORS = {
    "OWLv2": "google/owlv2-base-patch16-ensemble",
    "Grounding DINO": "IDEA-Research/grounding-dino-base",
}
COLOR_MODEL = "openai/clip-vit-large-patch14"
_KINDS = {"owlv2": "Owlv2ForObjectDetection", "grounding-dino": "GroundingDinoForObjectDetection"}
_SAME = 0.5  # two boxes of a class that overlap by more are one thing
_MOST = 16  # things of a class, as in GenEval
_NEAR = 0.1  # of the two sizes, by which centres may differ without counting


def stands(relation: str, a: Detection, b: Detection) -> bool:
    """GenEval's rule: the centres' distance, less a tenth of both sizes, lies mostly that way.

    "Mostly" is more than half of the distance of the centres, so that a thing can be both left of and
    above another.
    """
    offset = np.subtract(a.center, b.center)
    sizes = [[t.box[2] - t.box[0], t.box[3] - t.box[1]] for t in (a, b)]
    beyond = np.maximum(np.abs(offset) - _NEAR * np.sum(sizes, axis=0), 0) * np.sign(offset)
    if np.all(np.abs(beyond) < 1e-3):
        return False
    x, y = beyond / np.linalg.norm(offset)
    return bool({"left of": -x, "right of": x, "above": -y, "below": y}[relation] > 0.5)


def keep_distinct(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Places of boxes ``[n, 4]`` (left, top, right, bottom), best first, without those that overlap a
    better one by more than half (intersection over union)."""
    kept: list[int] = []
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    for i in np.argsort(-scores, kind="stable"):
        corner = (
            np.maximum(boxes[kept, :2], boxes[i, :2]),
            np.minimum(boxes[kept, 2:], boxes[i, 2:]),
        )
        common = np.prod(np.maximum(corner[1] - corner[0], 0), axis=1)
        union = areas[kept] + areas[i] - common
        if np.all(common <= _SAME * np.maximum(union, 1e-9)):
            kept.append(int(i))
    return kept


class PhotoDetector:
    """Finds the things that a prompt asks for.

    Args:
        source: a folder in transformers' layout, or a name of the hub.
        colors: the same of a CLIP, which tells colours.
        threshold: least confidence of a thing, 0 to 1.
        download: hub names that are not on this machine may be fetched.
        device: where to compute.
    """

    def __init__(
        self,
        source: Path | str,
        colors: Path | str = COLOR_MODEL,
        threshold: float = 0.25,
        download: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.source, self.colors, self.threshold = source, colors, threshold
        self.download, self.device = download, device
        names = [s if isinstance(s, str) else pretrained.fingerprint(s) for s in (source, colors)]
        self.identity: dict[str, Any] = {"weights": names, "threshold": threshold}
        self._finder = pretrained.Network(self._load, device)
        self._painter = pretrained.Network(self._load_clip, device)
        self._processor: Any = None
        self._tokenizer: Any = None
        self._texts: dict[str, Any] = {}

    def check(self) -> None:
        """Raise ``InputError`` if a part is not here and may not be fetched."""
        from transformers import AutoConfig, AutoProcessor, AutoTokenizer

        if self._tokenizer is not None:
            return
        kind = pretrained.load(AutoConfig, self.source, self.download, "detector").model_type
        if kind not in _KINDS:
            raise InputError(
                "detector",
                f"{self.source} is a {kind}",
                "Choose an OWLv2 or a Grounding DINO in transformers' layout.",
            )
        self._processor = pretrained.load(AutoProcessor, self.source, self.download, "detector")
        self._tokenizer = pretrained.load(AutoTokenizer, self.colors, self.download, "detector")

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Within this context the networks stay on their device."""
        with self._finder.held(), self._painter.held():
            yield

    def find(self, image: Image.Image, entries: Sequence[Mapping[str, Any]]) -> list[Detection]:
        """The things of the entries' classes, with a colour where an entry of the class has one."""
        self.check()
        image = image.convert("RGB")
        classes = list(dict.fromkeys(entry["class"] for entry in entries))
        boxes, scores = self._boxes(image, classes)
        best = scores.argmax(1)
        found = []
        for place, name in enumerate(classes):
            mine = np.flatnonzero((best == place) & (scores[:, place] >= self.threshold))
            colors = {e["color"] for e in entries if e["class"] == name and "color" in e}
            for i in [mine[k] for k in keep_distinct(boxes[mine], scores[mine, place])][:_MOST]:
                box = tuple(float(side) for side in boxes[i])
                color = self._color(image, box, name, colors) if colors else None
                found.append(Detection(name, color, box, float(scores[i, place])))  # type: ignore
        return found

    def _boxes(self, image: Image.Image, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Boxes ``[n, 4]`` in pixels of the picture, and their confidence for each class."""
        with self._finder.active() as network:
            if network.config.model_type == "owlv2":
                relative, scores = self._owl(network, image, classes)
                scale = np.full(4, max(image.size))
            else:
                relative, scores = self._dino(network, image, classes)
                scale = np.array([*image.size, *image.size])
        middle, half = relative[:, :2], relative[:, 2:] / 2
        boxes = np.concatenate([middle - half, middle + half], 1) * scale
        return np.clip(boxes, 0, [*image.size, *image.size]), scores

    def _owl(
        self, network: Any, image: Image.Image, classes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        import torch
        from PIL import Image as images

        # Its boxes are parts of the square that the picture is filled up to, right and below.
        side = max(image.size)
        square = images.new("RGB", (side, side), (128, 128, 128))
        square.paste(image, (0, 0))
        shown = prepare(square, network.config.vision_config.image_size, whole=False)
        words = self._processor.tokenizer(
            [f"a photo of a {name}" for name in classes],
            padding="max_length",
            truncation=True,
            max_length=network.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        found = network(
            pixel_values=torch.from_numpy(shown)[None].to(self.device),
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
        )
        return found.pred_boxes[0].float().cpu().numpy(), found.logits[0].sigmoid().cpu().numpy()

    def _dino(
        self, network: Any, image: Image.Image, classes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        # "cup. apple.": a class is as sure as its surest token.
        text = " ".join(f"{name.lower()}." for name in classes)
        tokens = self._processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        inputs = self._processor(text=[text], images=[image], return_tensors="pt").to(self.device)
        found = network(**inputs)
        likely = found.logits[0].sigmoid().float().cpu().numpy()
        scores, start = [], 0
        for name in classes:
            end = start + len(name.lower())
            mine = [i for i, (a, b) in enumerate(tokens) if a < end and b > start and b > a]
            scores.append(likely[:, mine].max(1))
            start = end + 2
        return found.pred_boxes[0].float().cpu().numpy(), np.stack(scores, 1)

    def _color(self, image: Image.Image, box: tuple[float, ...], name: str, asked: set[str]) -> str:
        """The colour that CLIP finds in the box: GenEval's ten, and those asked for."""
        import torch

        names = list(dict.fromkeys([*PHOTO_COLORS, *sorted(asked)]))
        left, top = (int(box[0]), int(box[1]))
        right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
        with self._painter.active() as clip:
            side = clip.config.vision_config.image_size
            crop = prepare(image.crop((left, top, right, bottom)), side, whole=False)
            seen = clip.vision_model(pixel_values=torch.from_numpy(crop)[None].to(self.device))
            picture = clip.visual_projection(seen.pooler_output)[0]
            texts = torch.stack([self._text(clip, color, name) for color in names])
            return names[int((texts @ picture).argmax())]

    def _text(self, clip: Any, color: str, name: str) -> Any:
        """The direction of a colour's name in CLIP's space, over three ways to say it."""
        import torch

        key = f"{color} {name}"
        if key not in self._texts:
            said = (
                f"a photo of a {key}",
                f"a photo of a {color}-colored {name}",
                f"a {color} thing",
            )
            longest = clip.config.text_config.max_position_embeddings
            words = self._tokenizer(
                list(said), padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(self.device)
            read = clip.text_model(words["input_ids"], words["attention_mask"]).pooler_output
            each = torch.nn.functional.normalize(clip.text_projection(read), dim=-1)
            self._texts[key] = torch.nn.functional.normalize(each.mean(0), dim=0).cpu()
        return self._texts[key].to(self.device)

    def _load(self) -> Any:
        import transformers

        self.check()
        config = pretrained.load(transformers.AutoConfig, self.source, self.download, "detector")
        kind = getattr(transformers, _KINDS[config.model_type])
        return pretrained.load_model(kind, self.source, self.download, "detector")

    def _load_clip(self) -> Any:
        from transformers import CLIPModel

        return pretrained.load_model(CLIPModel, self.colors, self.download, "detector")
