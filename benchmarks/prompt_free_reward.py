"""Rewards that look at the image alone, whatever the prompt says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.rewards.base import RewardResult
from gdro_comfy.rewards.shapes import detect_shapes


class PromptFreeReward:
    """A reward in [0, 1] computed from each image by a function."""

    range = (0.0, 1.0)

    def __init__(self, name: str, value: Callable[[Image.Image], float]) -> None:
        self.name, self.value = name, value
        self.settings: dict[str, float] = {}

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        pass

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        check_cancelled()
        return RewardResult(np.array([self.value(image) for image in images], dtype=np.float32))


def saturation(image: Image.Image) -> float:
    """Return the mean saturation of the pixels, in [0, 1]."""
    return float(np.asarray(image.convert("HSV"))[..., 1].mean() / 255)


def shapeliness(image: Image.Image) -> float:
    """Return how closely the shapes in the image match ideal ones.

    It is 1 if every shape is drawn exactly, and 0 for a smear or an empty wall.
    """
    matches = [0.0 if one.shape is None else one.confidence for one in detect_shapes(image)]
    return float(np.mean(matches)) if matches else 0.0
