"""A reward without dependencies for tests: how red an image is."""

import numpy as np

from gdro_comfy.rewards.base import RewardResult


class RednessReward:
    """Mean of red minus mean of green and blue, mapped to [0, 1], times ``scale``; 0 makes all equal."""

    name = "redness"
    range = (0.0, 1.0)

    def __init__(self, scale: float = 4.0) -> None:
        self.settings = {"scale": scale}
        self.scored = 0

    def check_prompts(self, prompts):
        pass

    def score(self, images, prompts, check_cancelled=lambda: None):
        check_cancelled()
        self.scored += len(images)
        pixels = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
        red = pixels[..., 0].mean((1, 2)) - pixels[..., 1:].mean((1, 2, 3))
        return RewardResult((self.settings["scale"] * (0.5 + red / 2)).astype(np.float32))
