"""Rewards of the bundled model's pictures that ask nothing of the prompt, and charts of results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.evaluation.statistics import Comparison
from gdro_comfy.rewards.base import RewardResult
from gdro_comfy.rewards.shapes import detect_shapes


class PictureReward:
    """A number in [0, 1] of a picture alone."""

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
    """Mean saturation of the pixels."""
    return float(np.asarray(image.convert("HSV"))[..., 1].mean() / 255)


def shapeliness(image: Image.Image) -> float:
    """How well what is in the picture agrees with the ideal shape that is most like it: 1 is drawn
    exactly, 0 a smear or an empty wall."""
    found = [0.0 if one.shape is None else one.confidence for one in detect_shapes(image)]
    return float(np.mean(found)) if found else 0.0


def gain_chart(rows: Mapping[str, Sequence[Comparison]]) -> Image.Image:
    """Gains of several seeds, each a dot with its 95 % interval, a line of the chart for each name."""
    font = ImageFont.load_default(18)
    left, width, line, foot = 170, 640, 44, 50
    ends = [end for found in rows.values() for c in found for end in (c.low, c.high, 0.0)]
    low, high = min(ends) - 0.01, max(ends) + 0.01

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * width

    bottom = 10 + line * len(rows)
    chart = Image.new("RGB", (left + width + 30, bottom + foot), "white")
    draw = ImageDraw.Draw(chart)
    for tick in np.arange(np.ceil(low * 20) / 20, high, 0.05):
        x = across(float(tick))
        shade = (90, 90, 90) if abs(tick) < 1e-9 else (225, 225, 225)
        draw.line((x, 6, x, bottom), fill=shade, width=2)
        draw.text((x, bottom + 4), f"{tick:+.2f}", fill=(90, 90, 90), font=font, anchor="ma")
    title = "gain of the held-out reward, with 95 % intervals"
    draw.text((left + width / 2, bottom + 26), title, fill=(90, 90, 90), font=font, anchor="ma")
    for place, (name, found) in enumerate(rows.items()):
        middle = 10 + line * place + line / 2
        draw.text((left - 14, middle), name, fill="black", font=font, anchor="rm")
        for number, c in enumerate(found):
            y = middle + (number - (len(found) - 1) / 2) * 11
            draw.line((across(c.low), y, across(c.high), y), fill=(70, 110, 190), width=3)
            x = across(c.gain)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=(25, 60, 140))
    return chart
