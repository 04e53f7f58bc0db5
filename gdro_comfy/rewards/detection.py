"""Detect things by their names in photographs.

OWLv2 or Grounding DINO through transformers finds them, CLIP tells their colours, and positions follow
GenEval's rule of boxes (arXiv 2310.11513).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from . import pretrained
from .composition_prompts import PHOTO_COLORS
from .preference import preprocess
from .shapes import Detection

if TYPE_CHECKING:
    import torch
    from PIL import Image

DETECTORS = {
    "OWLv2": "google/owlv2-base-patch16-ensemble",
    "Grounding DINO": "IDEA-Research/grounding-dino-base",
}
COLOR_MODEL = "openai/clip-vit-large-patch14"
_CLASSES = {"owlv2": "Owlv2ForObjectDetection", "grounding-dino": "GroundingDinoForObjectDetection"}
_MAX_OVERLAP = 0.5  # intersection over union above which two boxes are one thing
_MAX_THINGS = 16  # of a class, as in GenEval
_TOLERANCE = 0.1  # share of both sizes by which centres may differ without counting


def position_by_boxes(relation: str, a: Detection, b: Detection) -> bool:
    """Return whether ``a`` is, for example, "left of" ``b``, by GenEval's rule.

    The distance of the centres, less a tenth of both sizes, must lie mostly that way. "Mostly" is more
    than half of the centres' distance, so that a thing can be both left of and above another.
    """
    offset = np.subtract(a.center, b.center)
    sizes = [[d.box[2] - d.box[0], d.box[3] - d.box[1]] for d in (a, b)]
    beyond = np.maximum(np.abs(offset) - _TOLERANCE * np.sum(sizes, axis=0), 0) * np.sign(offset)
    if np.all(np.abs(beyond) < 1e-3):
        return False
    x, y = beyond / np.linalg.norm(offset)
    return bool({"left of": -x, "right of": x, "above": -y, "below": y}[relation] > 0.5)


def non_maximum_suppression(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Return the indices of the best boxes, best first, without those that overlap a better one.

    Overlap is more than half in intersection over union.

    Args:
        boxes: ``[n, 4]``, left, top, right, bottom.
        scores: ``[n]``.
    """
    kept: list[int] = []
    areas = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    for i in np.argsort(-scores, kind="stable"):
        top_left = np.maximum(boxes[kept, :2], boxes[i, :2])
        bottom_right = np.minimum(boxes[kept, 2:], boxes[i, 2:])
        intersection = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
        union = areas[kept] + areas[i] - intersection
        if np.all(intersection <= _MAX_OVERLAP * np.maximum(union, 1e-9)):
            kept.append(int(i))
    return kept


class PhotoDetector:
    """Finds the things that a prompt asks for.

    Boxes and confidences are computed here, not by the processors' post-processing: that gives Grounding
    DINO's things free text instead of the asked classes.

    Args:
        source: a folder in transformers' layout, or a repository on the hub.
        colors: the same of a CLIP, which tells colours.
        threshold: lowest confidence of a thing, 0 to 1.
        download: repositories that are not on this machine may be downloaded.
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
        weights = [s if isinstance(s, str) else pretrained.fingerprint(s) for s in (source, colors)]
        self.identity: dict[str, Any] = {"weights": weights, "threshold": threshold}
        self._detector = pretrained.Network(self._load, device)
        self._clip = pretrained.Network(self._load_clip, device)
        self._processor: Any = None
        self._tokenizer: Any = None
        self._embeddings: dict[str, Any] = {}

    def check(self) -> None:
        """Raise ``InputError`` if a part is not on this machine and may not be downloaded."""
        from transformers import AutoConfig, AutoProcessor, AutoTokenizer

        if self._tokenizer is not None:
            return
        kind = pretrained.load(AutoConfig, self.source, self.download, "detector").model_type
        if kind not in _CLASSES:
            raise InputError(
                "detector",
                f"{self.source} is a {kind}",
                "Choose an OWLv2 or a Grounding DINO in transformers' layout.",
            )
        self._processor = pretrained.load(AutoProcessor, self.source, self.download, "detector")
        self._tokenizer = pretrained.load(AutoTokenizer, self.colors, self.download, "detector")

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Keep the networks on their device within this context."""
        with self._detector.resident(), self._clip.resident():
            yield

    def detect(self, image: Image.Image, entries: Sequence[Mapping[str, Any]]) -> list[Detection]:
        """Return the things of the entries' classes, with a colour where an entry of the class has one."""
        self.check()
        image = image.convert("RGB")
        classes = list(dict.fromkeys(entry["class"] for entry in entries))
        boxes, scores = self._boxes(image, classes)
        best = scores.argmax(1)
        detections = []
        for column, name in enumerate(classes):
            found = np.flatnonzero((best == column) & (scores[:, column] >= self.threshold))
            colors = {e["color"] for e in entries if e["class"] == name and "color" in e}
            distinct = non_maximum_suppression(boxes[found], scores[found, column])
            for i in found[distinct][:_MAX_THINGS]:
                left, top, right, bottom = (float(side) for side in boxes[i])
                box = (left, top, right, bottom)
                color = self._color(image, box, name, colors) if colors else None
                detections.append(Detection(name, color, box, float(scores[i, column])))
        return detections

    def _boxes(self, image: Image.Image, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes ``[n, 4]`` in pixels of the image, and their confidences ``[n, classes]``.

        Raises:
            ValueError: one of them is not finite.
        """
        with self._detector.active() as network:
            if network.config.model_type == "owlv2":
                relative, scores = self._owlv2(network, image, classes)
                scale = np.full(4, max(image.size))
            else:
                relative, scores = self._grounding_dino(network, image, classes)
                scale = np.array([*image.size, *image.size])
        center, half = relative[:, :2], relative[:, 2:] / 2
        boxes = np.concatenate([center - half, center + half], 1) * scale
        if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
            raise ValueError("the detector gave numbers that are not finite")
        return np.clip(boxes, 0, [*image.size, *image.size]), scores

    def _owlv2(
        self, network: Any, image: Image.Image, classes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (centre and size, as shares of a square) and confidences."""
        import torch
        from PIL import ImageOps

        # The square is the image with margins on the right and below.
        side = max(image.size)
        margins = (0, 0, side - image.width, side - image.height)
        square = ImageOps.expand(image, margins, fill=(128, 128, 128))
        pixels = preprocess(square, network.config.vision_config.image_size)
        text = self._processor.tokenizer(
            [f"a photo of a {name}" for name in classes],
            padding="max_length",
            truncation=True,
            max_length=network.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self.device)
        output = network(
            pixel_values=torch.from_numpy(pixels)[None].to(self.device),
            input_ids=text["input_ids"],
            attention_mask=text["attention_mask"],
        )
        return output.pred_boxes[0].float().cpu().numpy(), output.logits[0].sigmoid().cpu().numpy()

    def _grounding_dino(
        self, network: Any, image: Image.Image, classes: list[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return boxes (centre and size, as shares of the image) and confidences.

        The text is "cup. apple."; the confidence of a class is that of its surest token.
        """
        text = " ".join(f"{name.lower()}." for name in classes)
        offsets = self._processor.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
        inputs = self._processor(text=[text], images=[image], return_tensors="pt").to(self.device)
        output = network(**inputs)
        by_token = output.logits[0].sigmoid().float().cpu().numpy()
        scores, start = [], 0
        for name in classes:
            end = start + len(name.lower())
            tokens = [i for i, (a, b) in enumerate(offsets) if a < end and b > start and b > a]
            scores.append(by_token[:, tokens].max(1))
            start = end + 2
        return output.pred_boxes[0].float().cpu().numpy(), np.stack(scores, 1)

    def _color(self, image: Image.Image, box: tuple[float, ...], name: str, asked: set[str]) -> str:
        """Return the colour that CLIP sees in the box, one of GenEval's ten or of those asked for."""
        import torch

        colors = list(dict.fromkeys([*PHOTO_COLORS, *sorted(asked)]))
        left, top = int(box[0]), int(box[1])
        right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
        with self._clip.active() as clip:
            side = clip.config.vision_config.image_size
            pixels = preprocess(image.crop((left, top, right, bottom)), side)
            features = clip.vision_model(
                pixel_values=torch.from_numpy(pixels)[None].to(self.device)
            )
            embedding = clip.visual_projection(features.pooler_output)[0]
            texts = torch.stack([self._text_embedding(clip, color, name) for color in colors])
            return colors[int((texts @ embedding).argmax())]

    def _text_embedding(self, clip: Any, color: str, name: str) -> Any:
        """Return CLIP's direction for a thing of this colour, the mean over three phrases."""
        import torch

        key = f"{color} {name}"
        if key not in self._embeddings:
            phrases = [
                f"a photo of a {key}",
                f"a photo of a {color}-colored {name}",
                f"a {color} thing",
            ]
            longest = clip.config.text_config.max_position_embeddings
            text = self._tokenizer(
                phrases, padding=True, truncation=True, max_length=longest, return_tensors="pt"
            ).to(self.device)
            features = clip.text_model(text["input_ids"], text["attention_mask"]).pooler_output
            directions = torch.nn.functional.normalize(clip.text_projection(features), dim=-1)
            mean = torch.nn.functional.normalize(directions.mean(0), dim=0)
            self._embeddings[key] = mean.cpu()
        return self._embeddings[key].to(self.device)

    def _load(self) -> Any:
        import transformers

        self.check()
        config = pretrained.load(transformers.AutoConfig, self.source, self.download, "detector")
        kind = getattr(transformers, _CLASSES[config.model_type])
        return pretrained.load_model(kind, self.source, self.download, "detector")

    def _load_clip(self) -> Any:
        from transformers import CLIPModel

        return pretrained.load_model(CLIPModel, self.colors, self.download, "detector")
