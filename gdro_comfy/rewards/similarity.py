"""How like reference images an image is: in its palette, its looks or its content."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..errors import InputError
from . import palette
from .base import RewardResult, naming_image
from .image_embeddings import ImageEmbedder

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt

log = logging.getLogger(__name__)

GOALS = ("like these", "not like these", "like, but no copy")
SEVERAL = ("mean", "nearest")
MIN_SIDE = 16
"""Pixels of a reference's shorter side."""


class Comparison(Protocol):
    """A way to compare images with references."""

    identity: Any
    """What it depends on, JSON-able."""

    def check(self) -> None:
        """Raise ``InputError`` if it cannot compare, before any work."""
        ...

    def describe(
        self, images: Sequence[Image.Image], check_cancelled: Callable[[], None]
    ) -> np.ndarray:
        """Return what is compared of each image, ``[n, ...]``."""
        ...

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return how alike the described images are, ``[n, m]`` in [0, 1]."""
        ...


class Palette:
    """Compares colours and their amounts, whatever their places (``palette.py``)."""

    def __init__(self) -> None:
        self.identity: Any = {"palette": palette.HALF}

    def check(self) -> None:
        """Accept: it needs no weights."""

    def describe(
        self, images: Sequence[Image.Image], check_cancelled: Callable[[], None]
    ) -> np.ndarray:
        """Return the palettes, ``[n, 13, 64]``."""
        rows = []
        for image in images:
            check_cancelled()
            rows.append(palette.palette(image))
        return np.stack(rows)

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the similarity of palettes."""
        return palette.similarity(a, b)


class Embedding:
    """Compares what a network sees; the similarity is ``(1 + cosine) / 2``."""

    def __init__(self, embedder: ImageEmbedder) -> None:
        self.embedder = embedder
        self.identity = {"weights": embedder.identity}

    def active(self) -> AbstractContextManager[Any]:
        """Keep the network on its device within this context."""
        return self.embedder.active()

    def check(self) -> None:
        """Raise ``InputError`` if the network is missing or of another kind."""
        self.embedder.check()

    def describe(
        self, images: Sequence[Image.Image], check_cancelled: Callable[[], None]
    ) -> np.ndarray:
        """Return the embeddings, ``[n, width]``."""
        return self.embedder.embed(images, check_cancelled)

    def similarity(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return the similarity of embeddings."""
        return ((1 + a @ b.T) / 2).clip(0, 1)


class SimilarityReward:
    """How like the references an image is.

    Args:
        references: at least one, as ``read_references`` returns them.
        comparison: what is compared.
        goal: one of ``GOALS``. "like these" gives the similarity. "not like these" gives 1 less the
            similarity to the nearest reference. "like, but no copy" gives 1 where the similarity to the
            nearest reference lies in ``band``, and less the further it is outside, down to 0 at similarities
            0 and 1.
        several: how "like these" treats several references: their mean, or the nearest.
        band: lowest and highest similarity, with 0 < low < high < 1.

    >>> SimilarityReward(references, Palette()).score([image], [prompt]).details  # doctest: +SKIP
    [{'similarity': 0.8123, 'nearest': 3}]

    Raises:
        InputError: the goal is unknown, or the band is none.
    """

    range = (0.0, 1.0)
    name = "similarity"

    def __init__(
        self,
        references: Sequence[Image.Image],
        comparison: Comparison,
        goal: str = GOALS[0],
        several: str = SEVERAL[0],
        band: tuple[float, float] = (0.6, 0.9),
    ) -> None:
        for name, value, known in (("goal", goal, GOALS), ("several", several, SEVERAL)):
            if value not in known:
                raise InputError(name, f"{value!r} is unknown", f"Use one of {', '.join(known)}.")
        if goal == GOALS[2] and not 0 < band[0] < band[1] < 1:
            raise InputError(
                "goal",
                f"a band from {band[0]:g} to {band[1]:g} holds no similarity",
                "Set at_least lower than at_most, both above 0 and below 1.",
            )
        self.references, self.comparison, self.goal = list(references), comparison, goal
        self.several = several if goal == GOALS[0] else "nearest"
        self.band = band
        self._described: np.ndarray | None = None
        self.settings: dict[str, Any] = {
            "references": _digest(self.references),
            "comparison": comparison.identity,
            "goal": goal,
            "several": self.several,
            "band": list(band) if goal == GOALS[2] else None,
        }

    def active(self) -> AbstractContextManager[Any]:
        """Keep a network on its device within this context."""
        return getattr(self.comparison, "active", contextlib.nullcontext)()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if a network is missing; prompts do not matter."""
        self.comparison.check()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are "similarity", and "nearest", the number of the nearest reference from 1.

        Raises:
            RewardError: an image cannot be read.
        """
        for index, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            with naming_image(self, index, prompt, OSError, ValueError):
                image.load()
        with self.active():
            alike = self.comparison.similarity(
                self.comparison.describe(images, check_cancelled),
                self._reference_descriptions(check_cancelled),
            )
        nearest = alike.argmax(1)
        similarity = alike.mean(1) if self.several == "mean" else alike.max(1)
        details = [
            {"similarity": round(float(value), 4), "nearest": int(number) + 1}
            for value, number in zip(similarity, nearest, strict=True)
        ]
        return RewardResult(self._value(similarity).astype(np.float32), details)

    def _value(self, similarity: np.ndarray) -> np.ndarray:
        if self.goal == GOALS[0]:
            return similarity
        if self.goal == GOALS[1]:
            return 1 - similarity
        low, high = self.band
        return np.minimum(similarity / low, (1 - similarity) / (1 - high)).clip(0, 1)

    def _reference_descriptions(self, check_cancelled: Callable[[], None]) -> np.ndarray:
        if self._described is None:
            self._described = self.comparison.describe(self.references, check_cancelled)
        return self._described

    def about(self) -> str:
        """Describe the references; for palettes also how alike they are, which shows what to expect."""
        count = len(self.references)
        text = f"{count} reference{'s' if count > 1 else ''}"
        if count == 1 or not isinstance(self.comparison, Palette):
            return f"{text}."
        described = self._reference_descriptions(lambda: None)
        alike = self.comparison.similarity(described, described)[~np.eye(count, dtype=bool)]
        return (
            f"{text}, alike among themselves by {alike.mean():.2f} on average ({alike.min():.2f} to "
            f"{alike.max():.2f})."
        )


def read_references(batches: Sequence[Any]) -> list[Image.Image]:
    """Return the images of ComfyUI's IMAGEs ``[n, h, w, c]`` as RGB or RGBA.

    One that comes twice counts once.

    Raises:
        InputError: there is none, or one is too small, has no visible pixel or a value that is no number; it
            is named by its number.
    """
    import torch
    from PIL import Image

    images: dict[str, Image.Image] = {}
    number = 0
    for batch in batches:
        for pixels in batch:
            number += 1
            height, width, channels = pixels.shape
            if min(height, width) < MIN_SIDE:
                raise _unusable(
                    number, f"has {width} x {height} pixels", f"Use {MIN_SIDE} a side, or more."
                )
            if not bool(torch.isfinite(pixels).all()):
                raise _unusable(
                    number, "has values that are no numbers", "See what the nodes before do."
                )
            values = (pixels.float().cpu() * 255).round().clamp(0, 255).byte()
            if channels < 3:
                values = values[..., :1].expand(height, width, 3)
            image = Image.fromarray(values[..., :4].contiguous().numpy())
            if channels >= 4 and not bool((values[..., 3] >= 128).any()):
                raise _unusable(
                    number, "is transparent throughout", "Use an image with something on it."
                )
            images.setdefault(_digest([image]), image)
    if not images:
        raise InputError("references", "there is no image", "Connect at least one.")
    if number > len(images):
        log.info("similarity: %d references, %d of them different", number, len(images))
    return list(images.values())


def _unusable(number: int, what: str, remedy: str) -> InputError:
    return InputError("references", f"image {number} {what}", remedy)


def _digest(images: Sequence[Image.Image]) -> str:
    digest = hashlib.sha256()
    for image in images:
        digest.update(f"{image.mode} {image.size}".encode())
        digest.update(image.tobytes())
    return digest.hexdigest()[:16]
