"""A reward for ComfyUI-GDRO in a package of its own. It imports nothing of ComfyUI-GDRO."""

from __future__ import annotations

import numpy as np


class WarmthReward:
    """How warm the colours of a picture are: red and yellow over blue.

    Args:
        strength: how steeply the reward rises with the warmth, above 0.
        wanted: "warm" or "cold".

    >>> WarmthReward(wanted="cold").score([Image.new("RGB", (8, 8), "grey")], [None])  # doctest: +SKIP
    [0.5]
    """

    name = "warmth"
    range = (0.0, 1.0)

    def __init__(self, strength: float = 4.0, wanted: str = "warm") -> None:
        if not strength > 0:
            raise ValueError(f"strength has to be above 0, not {strength}")
        if wanted not in ("warm", "cold"):
            raise ValueError(f'wanted has to be "warm" or "cold", not {wanted!r}')
        # What the scores depend on: scores made with other settings are stored apart.
        self.settings = {"strength": strength, "wanted": wanted}

    def score(self, images, prompts, check_cancelled=lambda: None):
        """Return a number from 0 to 1 for each RGB image; ``prompts[i].text`` is the i-th image's prompt."""
        values = []
        for image in images:
            check_cancelled()
            red, green, blue = np.asarray(image, np.float32).mean((0, 1)) / 255
            warmth = (red + green) / 2 - blue
            if self.settings["wanted"] == "cold":
                warmth = -warmth
            values.append(1 / (1 + np.exp(-self.settings["strength"] * warmth)))
        return values
