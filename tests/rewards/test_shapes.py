"""The detector of shapes, on drawn scenes with clutter, noise and other sizes."""

import io
import random
from collections import Counter

import numpy as np
import pytest
import scenes
from PIL import Image, ImageDraw, ImageFilter

from gdro_comfy.rewards import shapes
from gdro_comfy.rewards.shapes import detect_shapes


def drawn(count, seed=0):
    """Yield scenes with clutter, each with a count of what is in it."""
    rng = random.Random(seed)
    for _ in range(count):
        things, relation = scenes.random_things(rng)
        clutter = [
            scenes.Thing(1, rng.choice([*scenes.COLORS]), rng.choice(scenes.SHAPES))
            for _ in range(rng.choice((0, 0, 1, 2)))
        ]
        truth = Counter()
        for thing in things + clutter:
            truth[thing.shape, thing.color] += thing.count
        yield scenes.draw_shapes(rng, things, relation, clutter), truth


def accuracy(images):
    """Return the share of things detected exactly; missed and invented ones count as errors."""
    right = total = 0
    for image, truth in images:
        detected = Counter((thing.shape, thing.color) for thing in detect_shapes(image))
        right += (detected & truth).total()
        total += max(detected.total(), truth.total())
    return right / total


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def noisy(image, deviation=12):
    noise = np.random.default_rng(0).normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def on_wall(draw, size=64):
    """Return a plain wall with what ``draw`` draws on it."""
    image = Image.new("RGB", (size, size), (230, 226, 233))
    draw(ImageDraw.Draw(image))
    return image


def circle(color, box=(20, 20, 40, 40)):
    return on_wall(lambda draw: draw.ellipse(box, fill=color))


def test_colours_and_shapes_are_those_of_the_scenes():
    assert shapes.COLORS == scenes.COLORS
    assert shapes.SHAPES == scenes.SHAPES


def test_clean_scenes_are_detected_exactly():
    assert accuracy(drawn(300)) >= 0.999


def test_compressed_noisy_and_blurred_scenes_are_detected_nearly_exactly():
    assert accuracy((jpeg(image, 85), truth) for image, truth in drawn(100, 1)) >= 0.99
    assert accuracy((noisy(image), truth) for image, truth in drawn(100, 2)) >= 0.99
    blur = ImageFilter.GaussianBlur(0.7)
    assert accuracy((image.filter(blur), truth) for image, truth in drawn(100, 3)) >= 0.99


@pytest.mark.parametrize("size", [128, 300, 512])
def test_scenes_of_other_sizes_are_detected(size):
    images = ((image.resize((size, size)), truth) for image, truth in drawn(25, 4))
    assert accuracy(images) >= 0.99


def test_boxes_enclose_their_things():
    (thing,) = detect_shapes(circle(shapes.COLORS["red"], (20, 30, 39, 49)))
    assert thing.box == (20.0, 30.0, 40.0, 50.0)
    assert thing.center == (30.0, 40.0)
    assert thing.confidence > 0.9
    large = on_wall(lambda d: d.rectangle((100, 200, 219, 319), fill=shapes.COLORS["blue"]), 500)
    (thing,) = detect_shapes(large)
    assert np.allclose(thing.box, (100, 200, 220, 320), atol=4)
    assert (thing.shape, thing.color) == ("square", "blue")


@pytest.mark.parametrize(
    "color", [(0, 0, 0), (90, 90, 90), (0, 200, 220), (250, 110, 20), (220, 130, 130)]
)
def test_a_colour_that_is_none_of_the_five_has_no_name(color):
    (thing,) = detect_shapes(circle(color))
    assert (thing.shape, thing.color) == ("circle", None)


def test_touching_shapes_of_two_colours_are_two_things():
    def draw(pen):
        pen.rectangle((16, 20, 31, 35), fill=shapes.COLORS["red"])
        pen.rectangle((32, 20, 47, 35), fill=shapes.COLORS["blue"])

    detected = {(thing.shape, thing.color) for thing in detect_shapes(on_wall(draw))}
    assert detected == {("square", "red"), ("square", "blue")}


def test_merged_and_stretched_things_are_reported_without_a_shape():
    def bar(pen):
        pen.rectangle((5, 20, 58, 28), fill=shapes.COLORS["green"])

    def pair(pen):
        pen.ellipse((14, 22, 32, 40), fill=shapes.COLORS["red"])
        pen.ellipse((28, 22, 46, 40), fill=shapes.COLORS["red"])

    def flood(pen):
        pen.rectangle((0, 0, 64, 64), fill=shapes.COLORS["red"])

    for draw, color in ((bar, "green"), (pair, "red"), (flood, "red")):
        (thing,) = detect_shapes(on_wall(draw))
        assert (thing.shape, thing.color) == (None, color)


def test_specks_are_left_out():
    assert detect_shapes(on_wall(lambda pen: pen.rectangle((9, 9, 10, 10), fill="red"))) == []


def test_any_image_can_be_searched():
    rng = np.random.default_rng(0)
    images = [
        Image.new("RGB", (64, 64), color) for color in ("white", "black", "red", (230, 230, 230))
    ]
    noise = Image.fromarray(rng.integers(0, 256, (96, 64, 3), dtype=np.uint8))
    images += [noise, noise.filter(ImageFilter.GaussianBlur(3)), noise.convert("L")]
    images += [Image.new("RGB", (1, 1)), Image.new("RGBA", (700, 30))]
    for image in images:
        for thing in detect_shapes(image):
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= image.width
            assert 0 <= top < bottom <= image.height
            assert 0 <= thing.confidence <= 1
