"""What an evaluation looks like: the side-by-side picture, and a page that opens offline."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from ..data.prompts import Prompt
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


def side_by_side(
    pictures: Mapping[str, Sequence[Image.Image]],
    prompts: Sequence[Prompt],
    images_per_prompt: int,
    rows: int,
) -> Image.Image:
    """Rows of: the prompt, then base beside aligned on the same seeds. Prompts are taken evenly from
    the set, not by their result."""
    chosen = spread_out(len(prompts), rows)
    count = min(images_per_prompt, 4)
    width, height = next(iter(pictures.values()))[0].size
    # Small pictures are shown larger, by a whole factor so that their pixels stay what they are;
    # large ones are reduced to 384.
    zoom = max(1, round(160 / max(width, height)))
    scale = min(zoom, 384 / max(width, height)) if zoom == 1 else zoom
    width, height = round(width * scale), round(height * scale)
    size = max(13, height // 10)
    font = ImageFont.load_default(size)
    label, gap = int(size * 1.8), 4
    columns = list(pictures)
    block = count * (width + gap) + 3 * gap
    sheet = Image.new(
        "RGB", (len(columns) * block, len(chosen) * (height + label) + label), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for c, name in enumerate(columns):
        draw.text((c * block + gap, label // 4), name, fill=(120, 120, 120), font=font)
        for row, place in enumerate(chosen):
            top = label + row * (height + label)
            if c == 0:
                words = prompts[place].text[:110]
                draw.text((gap, top + label // 8), words, fill="black", font=font)
            for i in range(count):
                image = pictures[name][place * images_per_prompt + i]
                how = Image.Resampling.NEAREST if zoom > 1 else Image.Resampling.LANCZOS
                image = image.resize((width, height), how)
                sheet.paste(image, (c * block + gap + i * (width + gap), top + label - gap))
    return sheet


def spread_out(count: int, rows: int) -> list[int]:
    """At most ``rows`` of the places 0 to ``count - 1``, evenly."""
    rows = min(rows, count)
    return [int(i * count / rows) for i in range(rows)]


def page(
    results: Sequence[Result],
    pictures: Mapping[str, Sequence[Image.Image]],
    prompts: Sequence[Prompt],
    images_per_prompt: int,
    rows: int = 24,
) -> str:
    """A self-contained HTML page: the figures, and pictures of up to ``rows`` prompts."""
    first = results[0].comparison
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'>",
        f"<title>GDRO: {html.escape(first.reward)}</title><style>{_STYLE}</style>",
        f"<h1>Base against aligned: {html.escape(first.reward)}</h1>",
        f"<p>{first.prompts} prompts x {first.images} images, the same seeds for all. Intervals are "
        "95 % bootstrap intervals over prompts, of the paired difference.</p>",
        _table(results),
        "<h2>Pictures</h2><p>Prompts are taken evenly from the set, not by their result.</p>",
    ]
    for place in spread_out(len(prompts), rows):
        parts.append(f"<figure><figcaption>{html.escape(prompts[place].text)}</figcaption>")
        for name, images in pictures.items():
            mine = images[place * images_per_prompt : (place + 1) * images_per_prompt][:8]
            shown = "".join(_picture(image, name) for image in mine)
            parts.append(f"<div class=row><b>{html.escape(name)}</b>{shown}</div>")
        parts.append("</figure>")
    return "\n".join(parts) + "\n"


def _table(results: Sequence[Result]) -> str:
    heads = ("", "base", "aligned", "gain", "95 % interval", "better on")
    lines = ["<table><tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    for result in results:
        for name, found in result.comparisons():
            cells = (
                html.escape(f"{result.name}: {name}"),
                f"{found.base:.3f}",
                f"{found.aligned:.3f}",
                f"{found.gain:+.3f}",
                f"{found.low:+.3f} to {found.high:+.3f}",
                f"{found.win_rate:.0%}",
            )
            lines.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        lines.append(
            f"<tr><td>{html.escape(result.name)}: diversity</td><td>{result.base_diversity:.3f}</td>"
            f"<td>{result.diversity:.3f}</td><td colspan=3></td></tr>"
            f"<tr><td>{html.escape(result.name)}: distance from base</td><td></td>"
            f"<td>{result.drift:.4f}</td><td colspan=3></td></tr>"
        )
    return "\n".join(lines) + "</table>"


def _picture(image: Image.Image, name: str) -> str:
    image = image.convert("RGB")
    shown = max(image.size)
    small = image.copy()
    small.thumbnail((256, 256), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "PNG") if shown <= 128 else small.save(buffer, "JPEG", quality=88)
    kind = "png" if shown <= 128 else "jpeg"
    data = base64.b64encode(buffer.getvalue()).decode()
    side = 128 if shown <= 128 else 200
    return f"<img width={side} alt='{html.escape(name)}' src='data:image/{kind};base64,{data}'>"
