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
    """Scenes with clutter, each with what is in it."""
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


def accuracy(pictures):
    """The share of things found exactly, missed and invented ones counting as wrong."""
    right = total = 0
    for image, truth in pictures:
        found = Counter((thing.shape, thing.color) for thing in detect_shapes(image))
        right += (found & truth).total()
        total += max(found.total(), truth.total())
    return right / total


def jpeg(image, quality):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def noisy(image, deviation=12):
    noise = np.random.default_rng(0).normal(0, deviation, (image.height, image.width, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def on_wall(draw, size=64):
    """A plain wall with what ``draw`` draws on it."""
    image = Image.new("RGB", (size, size), (230, 226, 233))
    draw(ImageDraw.Draw(image))
    return image


def circle(color, box=(20, 20, 40, 40)):
    return on_wall(lambda draw: draw.ellipse(box, fill=color))


def test_names_are_those_of_the_scenes():
    assert shapes.COLORS == scenes.COLORS
    assert shapes.SHAPES == scenes.SHAPES


def test_clean_scenes_are_read_exactly():
    assert accuracy(drawn(300)) >= 0.999


def test_compressed_noisy_and_soft_scenes_are_read_nearly_exactly():
    assert accuracy((jpeg(image, 85), truth) for image, truth in drawn(100, 1)) >= 0.99
    assert accuracy((noisy(image), truth) for image, truth in drawn(100, 2)) >= 0.99
    soft = ImageFilter.GaussianBlur(0.7)
    assert accuracy((image.filter(soft), truth) for image, truth in drawn(100, 3)) >= 0.99


@pytest.mark.parametrize("size", [128, 300, 512])
def test_other_sizes(size):
    pictures = ((image.resize((size, size)), truth) for image, truth in drawn(25, 4))
    assert accuracy(pictures) >= 0.99


def test_boxes_are_where_things_are():
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
def test_a_color_that_is_none_of_the_five_has_no_name(color):
    (thing,) = detect_shapes(circle(color))
    assert (thing.shape, thing.color) == ("circle", None)


def test_shapes_of_two_colors_that_touch_are_two_things():
    def draw(pen):
        pen.rectangle((16, 20, 31, 35), fill=shapes.COLORS["red"])
        pen.rectangle((32, 20, 47, 35), fill=shapes.COLORS["blue"])

    found = {(thing.shape, thing.color) for thing in detect_shapes(on_wall(draw))}
    assert found == {("square", "red"), ("square", "blue")}


def test_merged_and_stretched_things_are_counted_without_a_shape():
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


def test_any_picture_is_survived():
    rng = np.random.default_rng(0)
    pictures = [
        Image.new("RGB", (64, 64), color) for color in ("white", "black", "red", (230, 230, 230))
    ]
    noise = Image.fromarray(rng.integers(0, 256, (96, 64, 3), dtype=np.uint8))
    pictures += [noise, noise.filter(ImageFilter.GaussianBlur(3)), noise.convert("L")]
    pictures += [Image.new("RGB", (1, 1)), Image.new("RGBA", (700, 30))]
    for picture in pictures:
        for thing in detect_shapes(picture):
            left, top, right, bottom = thing.box
            assert 0 <= left < right <= picture.width
            assert 0 <= top < bottom <= picture.height
            assert 0 <= thing.confidence <= 1
