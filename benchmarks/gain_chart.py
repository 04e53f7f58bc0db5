"""Draw a chart of gains with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gdro_comfy.evaluation.statistics import Comparison

_GREY, _LIGHT_GREY, _BLUE, _DARK_BLUE = (
    (90, 90, 90), (225, 225, 225), (70, 110, 190), (25, 60, 140),
)  # fmt: skip


def gain_chart(comparisons: Mapping[str, Sequence[Comparison]]) -> Image.Image:
    """Draw one row per name, with a dot and a 95 % interval for each of its seeds."""
    font = ImageFont.load_default(18)
    left, width, row_height, foot = 170, 640, 44, 50
    ends = [end for seeds in comparisons.values() for c in seeds for end in (c.low, c.high, 0.0)]
    low, high = min(ends) - 0.01, max(ends) + 0.01

    def across(value: float) -> float:
        return left + (value - low) / (high - low) * width

    bottom = 10 + row_height * len(comparisons)
    chart = Image.new("RGB", (left + width + 30, bottom + foot), "white")
    draw = ImageDraw.Draw(chart)
    for tick in np.arange(np.ceil(low * 20) / 20, high, 0.05):
        x = across(float(tick))
        draw.line((x, 6, x, bottom), fill=_GREY if abs(tick) < 1e-9 else _LIGHT_GREY, width=2)
        draw.text((x, bottom + 4), f"{tick:+.2f}", fill=_GREY, font=font, anchor="ma")
    title = "gain of the held-out reward, with 95 % intervals"
    draw.text((left + width / 2, bottom + 26), title, fill=_GREY, font=font, anchor="ma")
    for row, (name, seeds) in enumerate(comparisons.items()):
        middle = 10 + row_height * row + row_height / 2
        draw.text((left - 14, middle), name, fill="black", font=font, anchor="rm")
        for number, c in enumerate(seeds):
            y = middle + (number - (len(seeds) - 1) / 2) * 11
            draw.line((across(c.low), y, across(c.high), y), fill=_BLUE, width=3)
            x = across(c.gain)
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=_DARK_BLUE)
    return chart
