"""Generate prompts from templates and word lists: signs to read, and things to count and place.

The same count and seed give the same prompts.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..data.files import write_atomic
from ..errors import InputError
from ..rewards.composition_prompts import NUMBERS, PHOTO_COLORS

TASKS = ("single_object", "two_object", "counting", "colors", "position", "color_attr")

SCENES = (
    'a shop sign over a door that says "{}"',
    'a hand-painted wooden board with the words "{}"',
    'a neon sign at night that reads "{}"',
    'a coffee mug with "{}" printed on it',
    'a birthday cake with "{}" written in icing',
    'a chalkboard in a cafe that says "{}"',
    'the cover of an old book titled "{}"',
    'a T-shirt with "{}" across the chest',
    'graffiti on a brick wall that spells "{}"',
    'a street sign at a crossing that says "{}"',
    'a concert poster with the headline "{}"',
    'a paper note on a fridge that says "{}"',
    'a brass plate on a stone house engraved with "{}"',
    'a train station display that shows "{}"',
    'a jar of jam with a label that says "{}"',
    'a banner over a village street that reads "{}"',
    'a sailing boat with the name "{}" on its bow',
    'a message "{}" drawn in wet sand on a beach',
    'a theatre marquee with the letters "{}"',
    'a cardboard box stamped with "{}"',
)
"""Twenty kinds of scenes; ``{}`` is the text."""

_FIRST = (
    "fresh", "quiet", "golden", "late", "open", "little", "brave", "sunny", "wild", "silver", "happy",
    "lucky", "second", "northern", "blue", "warm", "secret", "slow", "grand", "green", "last", "sweet",
    "broken", "early", "hidden", "kind", "royal", "simple", "winter", "velvet",
)  # fmt: skip
_SECOND = (
    "bread", "harbor", "garden", "morning", "market", "river", "coffee", "station", "mountain", "kitchen",
    "island", "theatre", "library", "bicycle", "lantern", "orchard", "window", "pirate", "engine", "piano",
    "forest", "comet", "summer", "tailor", "bakery", "rocket", "studio", "anchor", "meadow", "tiger",
)  # fmt: skip
_ENDS = ("", "", "", " club", " & co", " today", " no 7", " 1984", " for all", " again")

THINGS = {
    "apple": "apples", "banana": "bananas", "orange": "oranges", "cup": "cups", "bowl": "bowls",
    "bottle": "bottles", "fork": "forks", "knife": "knives", "spoon": "spoons", "chair": "chairs",
    "bench": "benches", "couch": "couches", "bed": "beds", "clock": "clocks", "vase": "vases",
    "book": "books", "laptop": "laptops", "umbrella": "umbrellas", "backpack": "backpacks",
    "suitcase": "suitcases", "bicycle": "bicycles", "car": "cars", "bus": "buses", "truck": "trucks",
    "boat": "boats", "train": "trains", "kite": "kites", "skateboard": "skateboards", "dog": "dogs",
    "cat": "cats", "horse": "horses", "cow": "cows", "bird": "birds", "elephant": "elephants",
    "teddy bear": "teddy bears", "pizza": "pizzas", "cake": "cakes", "donut": "donuts",
    "carrot": "carrots", "potted plant": "potted plants",
}  # fmt: skip
"""Everyday things and their plurals."""

_PAINTABLE = (
    "apple", "cup", "bowl", "bottle", "chair", "bench", "couch", "clock", "vase", "book", "umbrella",
    "backpack", "suitcase", "bicycle", "car", "bus", "truck", "boat", "kite", "skateboard", "bird",
)  # fmt: skip
_RELATIONS = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}


def sign_prompts(count: int, seed: int) -> list[dict[str, Any]]:
    """Return prompts with a text in double quotes, cycling through the scenes; each text occurs once.

    Raises:
        InputError: ``count`` is not positive, or larger than the number of texts.
    """
    texts = [f"{a} {b}{end}" for a in _FIRST for b in _SECOND for end in sorted(set(_ENDS))]
    _check(count, len(texts))
    rng = random.Random(seed)
    rng.shuffle(texts)
    styles = (str.upper, str.title, str.capitalize)
    rows = []
    for index, text in enumerate(texts[:count]):
        scene = SCENES[index % len(SCENES)]
        rows.append({"text": scene.format(styles[rng.randrange(3)](text))})
    return rows


def thing_prompts(count: int, seed: int) -> list[dict[str, Any]]:
    """Return prompts in GenEval's format, evenly of its six tasks while they last, without repeats.

    Raises:
        InputError: ``count`` is not positive, or larger than the number of prompts.
    """
    rng = random.Random(seed)
    remaining = _all_things()
    for rows in remaining.values():
        rng.shuffle(rows)
    _check(count, sum(map(len, remaining.values())))
    chosen: list[dict[str, Any]] = []
    while len(chosen) < count:
        for rows in remaining.values():
            if rows and len(chosen) < count:
                chosen.append(rows.pop())
    rng.shuffle(chosen)  # so that the first part of the file has all tasks
    return chosen


def _all_things() -> dict[str, list[dict[str, Any]]]:
    """Return all prompts of each task."""
    pairs = [(a, b) for a in THINGS for b in THINGS if a != b]
    paints = [(c, t) for t in _PAINTABLE for c in PHOTO_COLORS if t != "orange" and c != t]
    return {
        "single_object": [_row("single_object", _a(t), _entry(t)) for t in THINGS],
        "two_object": [
            _row("two_object", f"{_a(a)} and {_a(b)}", _entry(a), _entry(b))
            for a, b in pairs
            if a < b
        ],
        "counting": [
            {
                **_row("counting", f"{NUMBERS[n - 1]} {THINGS[t]}", _entry(t, count=n)),
                "exclude": [{"class": t, "count": n + 1}],
            }
            for t in THINGS
            for n in (2, 3, 4)
        ],
        "colors": [_row("colors", _a(f"{c} {t}"), _entry(t, color=c)) for c, t in paints],
        "position": [
            # "A left of B" is stored as the position of B, seen from A.
            _row(
                "position",
                f"{_a(a)} {relation} {_a(b)}",
                _entry(a),
                _entry(b, position=[other, 0]),
            )
            for a, b in pairs
            for relation, other in _RELATIONS.items()
        ],
        "color_attr": list(_color_attributions(paints)),
    }


def _color_attributions(paints: Sequence[tuple[str, str]]) -> Iterator[dict[str, Any]]:
    for c, a in paints:
        for d, b in paints:
            if a < b and c != d:
                text = f"{_a(f'{c} {a}')} and {_a(f'{d} {b}')}"
                yield _row("color_attr", text, _entry(a, color=c), _entry(b, color=d))


def _row(task: str, text: str, *include: dict[str, Any]) -> dict[str, Any]:
    return {"tag": task, "include": list(include), "prompt": f"a photo of {text}"}


def _entry(thing: str, count: int = 1, **more: Any) -> dict[str, Any]:
    return {"class": thing, "count": count, **more}


def _a(words: str) -> str:
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _check(count: int, limit: int) -> None:
    if not 1 <= count <= limit:
        raise InputError("--count", f"{count} prompts cannot be made", f"Use 1 to {limit:,}.")


def write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write one prompt per line, as ``prompts.from_file`` reads them."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    write_atomic(path, lambda file: file.write(text.encode()))
