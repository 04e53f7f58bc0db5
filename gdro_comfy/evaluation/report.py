"""What an evaluation looks like: the side-by-side picture, and a page that opens offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from ..data.rollout import Rollout
    from .result import Result

_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #8886 }
th:first-child, td:first-child { text-align: left }
figure { margin: 1.2rem 0 } figcaption { color: #888 } img { image-rendering: pixelated }
.row { display: flex; flex-wrap: wrap; gap: 4px; align-items: center }
.row b { width: 6rem; font-weight: normal; color: #888 }
"""


def spread_out(count: int, limit: int) -> list[int]:
    """Return at most ``limit`` of the indices 0 to ``count - 1``, evenly spaced."""
    limit = min(limit, count)
    return [i * count // limit for i in range(limit)]


def side_by_side(rollouts: Mapping[str, Rollout], rows: int) -> Image.Image:
    """Draw rows of: the prompt, then up to 4 images of each rollout on the same seeds.

    Prompts are taken evenly from the set, not by their result.

    Args:
        rollouts: by the name in the heading; all of the same prompts and size.
        rows: at most.
    """
    first = next(iter(rollouts.values()))
    chosen = spread_out(len(first.prompts), rows)
    count = min(first.images_per_prompt, 4)
    columns = {}
    for name, rollout in rollouts.items():
        groups = rollout.groups()
        columns[name] = [[groups[i].image(index) for index in range(count)] for i in chosen]
    return sheet([first.prompts[i].text for i in chosen], columns)


def sheet(
    prompts: Sequence[str], columns: Mapping[str, Sequence[Sequence[Image.Image]]]
) -> Image.Image:
    """Draw rows of: the prompt, then its images of each column.

    Args:
        prompts: one per row.
        columns: by their heading, the images of each row; all of one size, as many in each row.
    """
    first = next(iter(columns.values()))
    count = len(first[0])
    width, height = first[0][0].size
    # Enlarge small images by a whole factor, which keeps their pixels square; reduce large ones to 384.
    zoom = max(1, round(160 / max(width, height)))
    scale = zoom if zoom > 1 else min(1.0, 384 / max(width, height))
    resampling = Image.Resampling.NEAREST if zoom > 1 else Image.Resampling.LANCZOS
    width, height = round(width * scale), round(height * scale)
    text_size = max(13, height // 10)
    font = ImageFont.load_default(text_size)
    label, gap = int(text_size * 1.8), 4
    block = count * (width + gap) + 3 * gap
    size = len(columns) * block, len(prompts) * (height + label) + label
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, (name, images) in enumerate(columns.items()):
        left = column * block + gap
        draw.text((left, label // 4), name, fill=(120, 120, 120), font=font)
        for row, prompt in enumerate(prompts):
            top = label + row * (height + label)
            if column == 0:
                draw.text((gap, top + label // 8), prompt[:110], fill="black", font=font)
            for i, image in enumerate(images[row]):
                resized = image.resize((width, height), resampling)
                canvas.paste(resized, (left + i * (width + gap), top + label - gap))
    return canvas


def page(results: Sequence[Result], rollouts: Mapping[str, Rollout], rows: int = 24) -> str:
    """Return a self-contained HTML page: the figures, and images of up to ``rows`` prompts."""
    comparison = results[0].comparison
    first = next(iter(rollouts.values()))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>GDRO: {html.escape(comparison.reward)}</title><style>{_STYLE}</style>",
        f"<h1>Base against aligned: {html.escape(comparison.reward)}</h1>",
        f"<p>{comparison.prompts} prompts x {comparison.images} images, the same seeds for all. "
        "Intervals are 95 % t intervals over prompts, of the paired difference.</p>",
        _table(results),
        "<h2>Pictures</h2><p>Prompts are taken evenly from the set, not by their result.</p>",
    ]
    for prompt in spread_out(len(first.prompts), rows):
        parts.append(f"<figure><figcaption>{html.escape(first.prompts[prompt].text)}</figcaption>")
        for name, rollout in rollouts.items():
            group = rollout.groups()[prompt]
            images = (group.image(index) for index in range(min(8, rollout.images_per_prompt)))
            shown = "".join(_embedded(image, name) for image in images)
            parts.append(f"<div class=row><b>{html.escape(name)}</b>{shown}</div>")
        parts.append("</figure>")
    return "\n".join(parts) + "\n"


def _table(results: Sequence[Result]) -> str:
    heads = ("", "base", "aligned", "gain", "95 % interval", "better on")
    lines = ["<table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for result in results:
        for heading, c in result.comparisons():
            cells = (
                html.escape(f"{result.name}: {heading}"),
                f"{c.base:.3f}",
                f"{c.aligned:.3f}",
                f"{c.gain:+.3f}",
                c.interval_text,
                f"{c.win_rate:.0%}",
            )
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        name = html.escape(result.name)
        lines.append(
            f"<tr><td>{name}: diversity</td><td>{result.base_diversity:.3f}</td>"
            f"<td>{result.diversity:.3f}</td><td colspan=3></td></tr>"
            f"<tr><td>{name}: distance from base</td><td></td>"
            f"<td>{result.drift:.4f}</td><td colspan=3></td></tr>"
        )
    return "\n".join(lines) + "</table>"


def _embedded(image: Image.Image, name: str) -> str:
    """Return an image as an ``img`` element that holds its data."""
    is_small = max(image.size) <= 128
    thumbnail = image.copy()
    thumbnail.thumbnail((256, 256), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    thumbnail.save(buffer, "PNG") if is_small else thumbnail.save(buffer, "JPEG", quality=88)
    kind, side = ("png", 128) if is_small else ("jpeg", 200)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"<img width={side} alt='{html.escape(name)}' src='data:image/{kind};base64,{data}'>"
