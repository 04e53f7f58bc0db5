"""Draw the captioned scenes that the bundled model is trained on; nothing is photographed or downloaded.

There are two kinds of scenes, 64 pixels wide and high:

- shapes: one or two kinds of coloured shapes, described by count, colour, shape and relation.
- words: a sign with a short word in the font that Pillow ships (Aileron, CC0).

A share of the scenes contradicts its caption, as images on the web do: there is more in them than the
caption says, or the sign is painted over. A model trained on them draws sharp images that are often wrong
in one respect, which a reward can correct.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

SIZE = 64
_SCALE = 4
"""Scenes are drawn this many times larger and then averaged down, for smooth edges."""

COLORS = {
    "red": (214, 48, 49),
    "green": (34, 153, 84),
    "blue": (41, 98, 224),
    "yellow": (244, 196, 20),
    "purple": (142, 60, 170),
}
SHAPES = ("circle", "square", "triangle", "star")
NUMBERS = ("zero", "one", "two", "three", "four")
RELATIONS = ("left of", "right of", "above", "below")
CAPTION_WORDS = (
    *COLORS, *SHAPES, *(s + "s" for s in SHAPES), *NUMBERS[1:],
    "left", "right", "of", "above", "below", "and", "a", "sign", "that", "says",
)  # fmt: skip
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
SIGN_COLORS = ("red", "green", "blue", "purple")
SIGN_WORDS = (
    "ART", "BED", "BEE", "BOX", "BUS", "CAR", "CAT", "COW", "CUP", "DOG", "EGG", "FOX", "GYM",
    "HAT", "ICE", "INK", "JAM", "KEY", "MAP", "NUT", "OWL", "PIE", "RUN", "SKY", "SUN", "TAX",
    "TEA", "VAN", "WAX", "YES", "ZIP", "ZOO",
)  # fmt: skip
"""The words on signs; each is one token of the bundled model's vocabulary."""


@dataclass
class Thing:
    """A number of shapes of one kind and colour, as one part of a caption describes them."""

    count: int
    color: str
    shape: str

    def text(self) -> str:
        """Return the words of the caption, e.g. ``two red circles``."""
        return f"{NUMBERS[self.count]} {self.color} {self.shape}{'s' if self.count > 1 else ''}"


def shape_caption(things: list[Thing], relation: str | None) -> str:
    """Return the caption of one or two things, e.g. ``two red circles left of one blue square``."""
    return f" {relation or 'and'} ".join(thing.text() for thing in things)


def _background(rng: random.Random) -> Image.Image:
    """Return a light, nearly grey wall that gets slightly darker or lighter towards the bottom."""
    size = SIZE * _SCALE
    base = [rng.randint(212, 244) + rng.randint(-4, 4) for _ in range(3)]
    slope = rng.randint(-16, 8)
    strip = Image.new("RGB", (1, 2))
    strip.putpixel((0, 0), tuple(base))
    strip.putpixel((0, 1), tuple(channel + slope for channel in base))
    return strip.resize((size, size), Image.Resampling.BILINEAR)


def _outline(shape: str, x: float, y: float, r: float) -> list[tuple[float, float]]:
    if shape == "square":
        h = r * 0.88
        return [(x - h, y - h), (x + h, y - h), (x + h, y + h), (x - h, y + h)]
    if shape == "triangle":
        return [(x, y - r), (x + r, y + r * 0.8), (x - r, y + r * 0.8)]
    radii = [r * 1.12, r * 0.5] * 5
    return [
        (x + q * math.sin(i * math.pi / 5), y - q * math.cos(i * math.pi / 5) + r * 0.06)
        for i, q in enumerate(radii)
    ]


def _draw(draw: ImageDraw.ImageDraw, shape: str, color: str, x: float, y: float, r: float) -> None:
    x, y, r = x * _SCALE, y * _SCALE, r * _SCALE
    if shape == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=COLORS[color])
    else:
        draw.polygon(_outline(shape, x, y, r), fill=COLORS[color])


def _random_centres(
    rng: random.Random, boxes: list[tuple[float, float, float, float]], radii: list[float]
) -> list[tuple[float, float]] | None:
    """Return a centre inside each box (x0, y0, x1, y1) that keeps the shapes apart, or None if that fails."""
    centres: list[tuple[float, float]] = []
    for box, r in zip(boxes, radii, strict=True):
        for _ in range(40):
            x = rng.uniform(box[0] + r + 1.5, box[2] - r - 1.5)
            y = rng.uniform(box[1] + r + 1.5, box[3] - r - 1.5)
            if all(
                max(abs(x - a), abs(y - b)) > r + q + 2.5
                for (a, b), q in zip(centres, radii, strict=False)
            ):
                centres.append((x, y))
                break
        else:
            return None
    return centres


def _halves(relation: str | None) -> tuple[tuple[float, float, float, float], ...]:
    """Return the boxes of the first and the second thing for a relation; the whole image for None."""
    s, m = float(SIZE), SIZE / 2
    left, right, top, bottom = (0, 0, m, s), (m, 0, s, s), (0, 0, s, m), (0, m, s, s)
    return {
        "left of": (left, right),
        "right of": (right, left),
        "above": (top, bottom),
        "below": (bottom, top),
        None: ((0, 0, s, s), (0, 0, s, s)),
    }[relation]


def draw_shapes(
    rng: random.Random, things: list[Thing], relation: str | None, clutter: list[Thing]
) -> Image.Image:
    """Return an image of the things in their relation, with clutter anywhere in it."""
    halves = _halves(relation if len(things) > 1 else None)
    total = sum(t.count for t in (*things, *clutter))
    boxes, owners = [], []
    for thing, box in [
        *zip(things, halves, strict=False),
        *((c, _halves(None)[0]) for c in clutter),
    ]:
        for _ in range(thing.count):
            boxes.append(box)
            owners.append(thing)
    while True:
        size = rng.uniform(9.0, 11.0) if total < 4 else rng.uniform(7.0, 8.0)
        radii = [size * rng.uniform(0.92, 1.08) for _ in owners]
        centres = _random_centres(rng, boxes, radii)
        if centres is not None:
            break
    image = _background(rng)
    draw = ImageDraw.Draw(image)
    for thing, (x, y), r in zip(owners, centres, radii, strict=True):
        _draw(draw, thing.shape, thing.color, x, y, r)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def _other(rng: random.Random, options, *used):
    """Return a random option that is not used yet."""
    return rng.choice([o for o in options if o not in used])


def random_things(rng: random.Random) -> tuple[list[Thing], str | None]:
    """Return what a caption describes: 1 to 3 shapes of one kind, or 1 or 2 of each of two kinds."""
    first = Thing(rng.randint(1, 3), rng.choice([*COLORS]), rng.choice(SHAPES))
    if rng.random() < 0.4:
        return [first], None
    first.count = rng.randint(1, 2)
    second = Thing(rng.randint(1, 2), _other(rng, COLORS, first.color), rng.choice(SHAPES))
    return [first, second], rng.choice((*RELATIONS, *RELATIONS, None))


def shape_scene(rng: random.Random, wrong: float) -> tuple[Image.Image, str]:
    """Return a drawn scene and its caption; with probability ``wrong`` they disagree in one respect.

    Half of the wrong scenes have one shape too many, a quarter have a thing that the caption does not
    mention, and the rest have another colour, shape or relation.
    """
    things, relation = random_things(rng)
    caption = shape_caption(things, relation)
    clutter: list[Thing] = []
    if rng.random() < wrong:
        fault = rng.choice(
            ("many", "many", "many", "many", "clutter", "clutter", "kind", "relation")
        )
        changed = rng.choice(things)
        if fault == "many":
            changed.count += 1
        elif fault == "clutter":
            clutter = [Thing(1, rng.choice([*COLORS]), rng.choice(SHAPES))]
        elif fault == "relation" and relation:
            relation = _other(rng, RELATIONS, relation)
        elif rng.random() < 0.5:
            changed.color = _other(rng, COLORS, changed.color)
        else:
            changed.shape = _other(rng, SHAPES, changed.shape)
    return draw_shapes(rng, things, relation, clutter), caption


def word_caption(word: str, color: str) -> str:
    """Return the caption of a sign, e.g. ``a red sign that says "CAT"``."""
    return f'a {color} sign that says "{word}"'


def draw_word(rng: random.Random, word: str, color: str, scribbles: int = 0) -> Image.Image:
    """Return a coloured sign with one white letter per cell, and ``scribbles`` strokes of paint over them."""
    image = _background(rng)
    draw = ImageDraw.Draw(image)
    cell, height, margin = 18 * _SCALE, 32 * _SCALE, 3 * _SCALE
    width = cell * len(word) + 2 * margin
    left = (SIZE * _SCALE - width) // 2
    top = int(rng.uniform(28, SIZE - 28) * _SCALE - height / 2)
    draw.rounded_rectangle(
        (left, top, left + width, top + height), radius=4 * _SCALE, fill=COLORS[color]
    )
    font = ImageFont.load_default(26 * _SCALE)
    for i, letter in enumerate(word):
        x = left + margin + cell * (i + 0.5)
        draw.text(
            (x, top + height / 2 + 9 * _SCALE), letter, font=font, anchor="ms",
            fill=(255, 255, 255), stroke_width=_SCALE // 2, stroke_fill=(255, 255, 255),
        )  # fmt: skip
    for _ in range(scribbles):
        x0, x1 = sorted(rng.uniform(left, left + width) for _ in range(2))
        x0, x1 = min(x0, x1 - 2 * cell), max(x1, x0 + 2 * cell)
        y0, y1 = (top + height * rng.uniform(0.3, 0.7) for _ in range(2))
        draw.line((x0, y0, x1, y1), fill=COLORS[color], width=6 * _SCALE)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def word_scene(rng: random.Random, wrong: float) -> tuple[Image.Image, str]:
    """Return a drawn sign and its caption; with probability ``wrong`` it is painted over or misspelt."""
    word, color = rng.choice(SIGN_WORDS), rng.choice(SIGN_COLORS)
    shown, scribbles = word, 0
    if rng.random() < wrong:
        if rng.random() < 0.75:
            scribbles = rng.choice((1, 2, 2))
        else:
            i = rng.randrange(len(word))
            shown = word[:i] + _other(rng, LETTERS, word[i]) + word[i + 1 :]
    return draw_word(rng, shown, color, scribbles), word_caption(word, color)
