"""Pictures drawn from a seed, of any size, and ways to damage them by a stated amount."""

from __future__ import annotations

import io
import random

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter


def drawn(seed: int, side: int = 256) -> Image.Image:
    """Draw discs, boxes and lines of soft colours on a sloping wall, with smooth edges."""
    rng, scale = random.Random(seed), 2 * side
    wall = np.full((scale, scale, 3), [rng.randint(180, 235) for _ in range(3)], np.float64)
    wall += np.linspace(0, rng.randint(-60, 10), scale)[:, None, None]
    image = Image.fromarray(wall.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(rng.randint(3, 25)):
        x, y, r = rng.randint(0, scale), rng.randint(0, scale), rng.randint(scale // 40, scale // 6)
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((x - r, y - r, x + r, y + r), fill=tuple(rng.randint(20, 235) for _ in range(3)))
    for _ in range(rng.randint(0, 12)):
        ends = [rng.randint(0, scale) for _ in range(4)]
        draw.line(ends, fill=tuple(rng.randint(0, 200) for _ in range(3)), width=rng.randint(1, 8))
    return image.resize((side, side), Image.Resampling.BOX)


def blurred(image: Image.Image, radius: float) -> Image.Image:
    """Blur by a Gaussian of this standard deviation, in pixels."""
    return image.filter(ImageFilter.GaussianBlur(radius))


def noisy(image: Image.Image, sigma: float) -> Image.Image:
    """Add grey noise of this standard deviation, in levels."""
    noise = np.random.default_rng(0).normal(0, sigma, (*image.size[::-1], 1))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).round().astype(np.uint8))


def as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    """Compress as JPEG of this quality."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def checkered(image: Image.Image, levels: int, period: int = 2) -> Image.Image:
    """Add a checkerboard that repeats after ``period`` pixels, of this many levels up and down."""
    rows, columns = np.indices(image.size[::-1]) // (period // 2)
    sign = np.where((rows + columns) % 2, levels, -levels)[..., None]
    return Image.fromarray((np.asarray(image).astype(int) + sign).clip(0, 255).astype(np.uint8))


def seamed(image: Image.Image, levels: int, period: int = 16) -> Image.Image:
    """Lighten a row and a column every ``period`` pixels by this many levels."""
    rows, columns = np.indices(image.size[::-1]) % period
    seam = np.where((rows == 0) | (columns == 0), levels, 0)[..., None]
    return Image.fromarray((np.asarray(image).astype(int) + seam).clip(0, 255).astype(np.uint8))


def saturated(image: Image.Image, factor: float) -> Image.Image:
    """Multiply the colour's distance from grey."""
    return ImageEnhance.Color(image).enhance(factor)


def contrasted(image: Image.Image, factor: float) -> Image.Image:
    """Multiply the distance from the mean grey."""
    return ImageEnhance.Contrast(image).enhance(factor)
