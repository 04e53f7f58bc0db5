"""Detect plain coloured shapes on a light wall: exact on the bundled model's scenes, and fast.

There is no neural network: pixels that differ from the wall are joined into connected things. A thing's
colour is the nearest of five in hue. Its shape is the ideal one that it overlaps best, drawn in the same
position with the same area. What resembles none of them (a smear, two shapes that touch) is reported without
a shape or a colour, so that a reward can count it as not asked for.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

COLORS = {
    "red": (214, 48, 49),
    "green": (34, 153, 84),
    "blue": (41, 98, 224),
    "yellow": (244, 196, 20),
    "purple": (142, 60, 170),
}
SHAPES = ("circle", "square", "triangle", "star")

_MAX_SIDE = 128  # larger images are averaged down: shapes keep enough pixels, and time is bounded
_MIN_AREA = 0.004  # of the image; less is a speck (the smallest star of the scenes has 0.012)
_MAX_AREA = 0.5  # of the image; what covers more is not a thing on a wall
_MIN_COVERAGE = 0.5  # of a pixel by a thing, for the pixel to belong to it
_MIN_HUE_COSINE = 0.96  # with a named colour: within 16 degrees
_STRENGTH = (0.55, 1.6)  # of a colour, as a multiple of the named one; 0 is the wall
_MIN_OVERLAP = 0.8  # with an ideal shape; circle and square overlap by 0.83
_MIXED = 0.2  # share of pixels in a second colour from which a thing is several that touch
_CELLS = 256  # per side of the grid of ideal shapes


@dataclass(frozen=True)
class Detection:
    """One thing in an image.

    Args:
        shape: one of ``SHAPES``, or in photographs the name of the thing; None if it is not recognised.
        color: its name; None if it is too pale, too dark or between two colours, or if nobody asked.
        box: (left, top, right, bottom) in pixels of the image.
        confidence: 0 to 1; of shapes, the overlap with the most similar ideal shape.
    """

    shape: str | None
    color: str | None
    box: tuple[float, float, float, float]
    confidence: float

    @property
    def center(self) -> tuple[float, float]:
        """The centre of the box, (x, y)."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


class _Part(NamedTuple):
    """Connected pixels: a mask with a margin of one empty pixel, and its position in the image."""

    top: int
    left: int
    mask: np.ndarray

    def window(self, image: np.ndarray) -> np.ndarray:
        """Return the region of an image that the mask covers."""
        rows, columns = self.mask.shape
        return image[self.top : self.top + rows, self.left : self.left + columns]


def detect_shapes(image: Image.Image) -> list[Detection]:
    """Return the upright shapes in an image, from top to bottom.

    Made for 64 to 512 pixels per side; larger images take no longer. What covers less than 0.4 % of the
    image is a speck and left out.
    """
    image = image.convert("RGB")
    factor = math.ceil(max(image.size) / _MAX_SIDE)
    pixels = np.asarray(image.reduce(factor) if factor > 1 else image, dtype=np.float32)
    wall = _wall_color(pixels)
    named = np.array([*COLORS.values()], dtype=np.float32) - wall
    # A margin of wall, so that the window of every thing lies inside.
    offset = np.zeros((pixels.shape[0] + 2, pixels.shape[1] + 2, 3), dtype=np.float32)
    offset[1:-1, 1:-1] = pixels - wall
    hue = _hues(offset, named)
    minimum = _MIN_AREA * hue.size

    return [
        _identify(part, offset, named, factor, image.size)
        for thing in _components(hue >= 0, minimum)
        for part in _split_colors(thing, hue, minimum)
    ]


def _identify(
    part: _Part, offset: np.ndarray, named: np.ndarray, factor: int, size: tuple[int, int]
) -> Detection:
    """Return what a part is.

    Args:
        offset: of each pixel from the wall's colour.
        named: offsets of the named colours.
        factor: by which the image was averaged down.
        size: of the original image, which the box refers to.
    """
    window = part.window(offset)
    color = np.median(window[part.mask], axis=0)
    if part.mask.sum() > _MAX_AREA * offset[..., 0].size:
        shape, overlap = None, 0.0
    else:
        shape, overlap = _name_shape(part.mask, window @ color / (color @ color))
    # On the left and at the top, the margins of mask and image cancel out.
    rows, columns = part.mask.shape
    box = (
        float(part.left * factor),
        float(part.top * factor),
        float(min((part.left + columns - 2) * factor, size[0])),
        float(min((part.top + rows - 2) * factor, size[1])),
    )
    return Detection(shape, _name_color(color, named), box, round(overlap, 3))


def _wall_color(pixels: np.ndarray) -> np.ndarray:
    """Return the median of light and nearly grey pixels, or light grey if there are hardly any."""
    sample = pixels[::2, ::2].reshape(-1, 3)
    low, high = sample.min(1), sample.max(1)
    light = sample[(low > 150) & (high - low < 60)]
    if len(light) < 0.02 * len(sample):
        return np.full(3, 228, dtype=np.float32)
    return np.median(light, axis=0)


def _chroma(colors: np.ndarray) -> np.ndarray:
    """Return colours ``[..., 3]`` without their share of grey."""
    return colors @ (np.eye(3, dtype=np.float32) - np.float32(1 / 3))


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


def _hues(offset: np.ndarray, named: np.ndarray) -> np.ndarray:
    """Return for each pixel the index of the named colour nearest in hue; -1 is the wall."""
    hue = np.full(offset.shape[:2], -1, dtype=np.int8)
    strength = np.sqrt(np.einsum("ijk,ijk->ij", offset, offset))
    minimum = _MIN_COVERAGE * np.linalg.norm(named, axis=1)
    visible = strength >= minimum.min()
    nearest = (_chroma(offset[visible]) @ _unit(_chroma(named)).T).argmax(-1)
    hue[visible] = np.where(strength[visible] >= minimum[nearest], nearest, -1)
    return hue


def _components(mask: np.ndarray, minimum: float) -> list[_Part]:
    """Return 4-connected parts of a mask with at least ``minimum`` pixels, from top to bottom.

    Joins the mask's horizontal runs where they overlap with a run of the next row. The outermost pixels of
    the mask must be empty.
    """
    stride = mask.shape[1]
    steps = np.diff(mask.ravel().view(np.int8))
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    first = np.searchsorted(ends, starts + stride, side="right").tolist()
    last = np.searchsorted(starts, ends + stride, side="left").tolist()

    parent = list(range(len(starts)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    for run, (begin, end) in enumerate(zip(first, last, strict=True)):
        for below in range(begin, end):
            a, b = root(run), root(below)
            parent[max(a, b)] = min(a, b)
    roots = np.array([root(run) for run in parent], dtype=np.int64)

    parts = []
    areas = np.bincount(roots, weights=ends - starts)
    for label in np.flatnonzero(areas >= max(minimum, 1)):
        runs = roots == label
        rows, lefts = starts[runs] // stride, starts[runs] % stride
        rights = lefts + (ends - starts)[runs]
        top, left = int(rows[0]) - 1, int(lefts.min()) - 1
        part = np.zeros((int(rows[-1]) + 2 - top, int(rights.max()) + 1 - left), dtype=bool)
        for row, begin, end in zip(rows - top, lefts - left, rights - left, strict=True):
            part[row, begin:end] = True
        parts.append(_Part(top, left, part))
    return parts


def _split_colors(part: _Part, hue: np.ndarray, minimum: float) -> list[_Part]:
    """Return the part itself if it has one colour, else its pieces of each colour."""
    window = part.window(hue)
    counts = np.bincount(window[part.mask], minlength=len(COLORS))
    if np.sort(counts)[-2] < _MIXED * counts.sum():
        return [part]
    return [
        _Part(part.top + piece.top, part.left + piece.left, piece.mask)
        for color in range(len(COLORS))
        for piece in _components(part.mask & (window == color), minimum)
    ]


def _name_color(offset: np.ndarray, named: np.ndarray) -> str | None:
    """Return the name of a colour, given by its offset from the wall; None if it has no name."""
    chroma, references = _chroma(offset), _chroma(named)
    cosines = _unit(references) @ _unit(chroma)
    best = int(cosines.argmax())
    strength = float(chroma @ references[best] / (references[best] @ references[best]))
    if cosines[best] < _MIN_HUE_COSINE or not _STRENGTH[0] <= strength <= _STRENGTH[1]:
        return None
    return [*COLORS][best]


def _name_shape(mask: np.ndarray, coverage: np.ndarray) -> tuple[str | None, float]:
    """Return the most similar ideal shape, None below the least overlap, and the overlap with it.

    Overlap is intersection over union of partly covered pixels, so that a star of 12 pixels keeps its
    points.

    Args:
        mask: the thing's pixels, with a margin of one empty pixel.
        coverage: of every pixel by the thing's colour; 0 is the wall, 1 the colour.
    """
    grown = mask.copy()  # pixels at the rim, covered by less than half, belong to the thing too
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    coverage = coverage.clip(0, 1) * grown
    area = coverage.sum()
    rows, columns = (np.arange(n + 1) for n in mask.shape)
    y = coverage.sum(1) @ (rows[:-1] + 0.5) / area
    x = coverage.sum(0) @ (columns[:-1] + 0.5) / area
    ideal = _draw_ideal((columns - x) / math.sqrt(area), (rows - y) / math.sqrt(area))
    overlap = np.minimum(ideal, coverage).sum((1, 2)) / np.maximum(ideal, coverage).sum((1, 2))
    best = int(overlap.argmax())
    recognised = overlap[best] >= _MIN_OVERLAP
    return (SHAPES[best] if recognised else None), float(overlap[best])


def _draw_ideal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the coverage of pixels between edges ``x`` and ``y`` by each shape, ``[4, rows, columns]``."""
    columns, rows = (
        ((edges + 1) * (_CELLS / 2)).round().clip(0, _CELLS).astype(int) for edges in (x, y)
    )
    corners = _ideal_sums()[:, rows[:, None], columns]
    covered = corners[:, 1:, 1:] - corners[:, :-1, 1:] - corners[:, 1:, :-1] + corners[:, :-1, :-1]
    return covered / np.maximum(np.diff(rows)[:, None] * np.diff(columns), 1)


@functools.cache
def _ideal_sums() -> np.ndarray:
    """Return the shapes as summed-area tables ``[4, cells + 1, cells + 1]``.

    The shapes have area 1 and their centre at 0, on a grid from -1 to 1. Four look-ups give the coverage
    of a pixel.
    """
    steps = (np.arange(_CELLS) + 0.5) / (_CELLS / 2) - 1
    x, y = np.meshgrid(steps, steps)
    circle = np.hypot(x, y) <= math.sqrt(1 / math.pi)
    square = np.maximum(np.abs(x), np.abs(y)) <= 0.5
    height = math.sqrt(1.8)  # the triangle is 2 wide for 1.8 high, its centre a third from the base
    down = y + height * 2 / 3
    triangle = (np.abs(x) <= down / 1.8) & (down <= height)
    # A five-pointed star: in each of ten sectors, a straight edge from a tip to an inner corner.
    sector, ratio = math.pi / 5, 0.446
    tip = 1 / math.sqrt(5 * ratio * math.sin(sector))
    angle = np.abs((np.arctan2(x, -y) + sector) % (2 * sector) - sector)
    edge = tip * ratio * math.sin(sector) / (ratio * np.sin(sector - angle) + np.sin(angle))
    star = np.hypot(x, y) <= edge
    sums = np.stack([circle, square, triangle, star]).cumsum(1).cumsum(2)
    return np.pad(sums, ((0, 0), (1, 0), (1, 0)))
