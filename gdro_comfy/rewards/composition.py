"""The composition reward: are the right shapes there, in number, colour and position?

After GenEval (Ghosh et al., arXiv 2310.11513), with partial credit for each of its questions and
the exact detector of ``shapes.py`` in place of a network: made for flat shapes on a light wall.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..prompts import Prompt
from .base import RewardError, RewardResult
from .shapes import COLORS, SHAPES, Detection, detect_shapes

if TYPE_CHECKING:
    from PIL import Image

_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNTS = {"a": 1, "an": 1, **{word: i for i, word in enumerate(_NUMBERS, 1)}}
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_HOLDS: dict[str, Callable[[Detection, Detection], bool]] = {
    "left of": lambda a, b: a.center[0] < b.center[0],
    "right of": lambda a, b: a.center[0] > b.center[0],
    "above": lambda a, b: a.center[1] < b.center[1],
    "below": lambda a, b: a.center[1] > b.center[1],
}

_PREFIX = re.compile(r"an? (?:picture|photo|image|drawing) (?:of|with) ")
_LINK = re.compile(
    r"\s*,?\s*\b(?:is |are )?(?:to the )?(and|left of|right of|above|below)\b\s*|\s*,\s*"
)
_THING = re.compile(
    rf"(?:({'|'.join(_COUNTS)}|\d+) )?(?:({'|'.join(COLORS)}) )?({'|'.join(SHAPES)})(s?)"
)
_UNDERSTOOD = (
    'Write for example "two red circles left of one blue square" or "a star and 3 triangles": '
    f"shapes {', '.join(SHAPES)}; colours {', '.join(COLORS)} or none; joined by and, left of, "
    'right of, above or below. Or read the prompts from a file where each has an "include".'
)


def parse_include(text: str) -> tuple[dict[str, Any], ...]:
    """What a plain prompt asks for, in the form of ``Prompt.include``.

    >>> parse_include("a star left of two red circles")[1]
    {'class': 'circle', 'count': 2, 'color': 'red', 'position': ['right of', 0]}

    Raises:
        InputError: something in the text is not understood.
    """
    plain = _PREFIX.sub("", " ".join(text.lower().split()).rstrip(" ."), count=1)
    pieces = _LINK.split(plain)
    include: list[dict[str, Any]] = []
    for place, piece in enumerate(pieces[::2]):
        match = _THING.fullmatch(piece)
        if match is None:
            raise InputError("prompts", f"{piece!r} in {text!r} is not understood", _UNDERSTOOD)
        count, color, shape, plural = match.groups()
        if (plural and count is None) or count == "0":
            raise InputError("prompts", f"{piece!r} in {text!r} has no number", _UNDERSTOOD)
        entry = {"class": shape, "count": _COUNTS[count] if count in _COUNTS else int(count or 1)}
        if color:
            entry["color"] = color
        relation = pieces[2 * place - 1] if place else None
        if relation in _OPPOSITE:
            entry["position"] = [_OPPOSITE[relation], place - 1]
        include.append(entry)
    return tuple(include)


def composition_terms(
    include: Sequence[Mapping[str, Any]], things: Sequence[Detection], strict: bool = True
) -> list[tuple[str, float]]:
    """The questions of the reward, in words, each with its value in [0, 1].

    - For every entry its number: ``max(0, 1 - |asked - found| / asked)``. Things of one class are
      dealt out to the entries of that class: first those of the right colour, then the others.
    - For every entry with a colour the same, over the things of that class and colour.
    - For every position, the share of pairs of one thing from each entry that stand so, by the
      centres of their boxes; 0 if either entry has none.
    - With ``strict``, what was not asked for: ``max(0, 1 - others / asked in all)``.
    """
    groups = _deal_out(include, things)
    terms = []
    for entry, group in zip(include, groups, strict=True):
        terms.append((f"{_words(entry)}: number", _share(entry["count"], len(group))))
        if "color" in entry:
            kin = [
                (other, dealt)
                for other, dealt in zip(include, groups, strict=True)
                if other["class"] == entry["class"] and "color" in other
            ]
            asked = sum(e["count"] for e, _ in kin if e["color"] == entry["color"])
            found = sum(t.color == entry["color"] for _, dealt in kin for t in dealt)
            terms.append((f"{_words(entry)}: color", _share(asked, found)))
        if "position" in entry:
            relation, index = entry["position"]
            pairs = [_HOLDS[relation](a, b) for a in group for b in groups[index]]
            words = f"{_words(entry)} {relation} {_words(include[index])}"
            terms.append((words, sum(pairs) / len(pairs) if pairs else 0.0))
    if strict:
        others = len(things) - sum(len(group) for group in groups)
        asked = sum(entry["count"] for entry in include)
        terms.append(("nothing else", max(0.0, 1 - others / asked)))
    return terms


def _share(asked: int, found: int) -> float:
    return max(0.0, 1 - abs(asked - found) / asked)


def _deal_out(
    include: Sequence[Mapping[str, Any]], things: Sequence[Detection]
) -> list[list[Detection]]:
    """For every entry the things of its class that count for it; each thing goes to one entry.

    In turn: those of the asked colour, up to the asked number; any colour, up to the asked number,
    beginning where none is asked; the rest, beginning with their colour, else where one too many
    weighs least.
    """
    groups: list[list[Detection]] = [[] for _ in include]
    order = sorted(range(len(include)), key=lambda i: ("color" in include[i], -include[i]["count"]))
    rest = list(things)
    for same_color, within_count in ((True, True), (False, True), (True, False), (False, False)):
        for i in order:
            entry = include[i]
            for thing in list(rest):
                if within_count and len(groups[i]) == entry["count"]:
                    break
                if thing.shape != entry["class"]:
                    continue
                if not same_color or ("color" in entry and thing.color == entry["color"]):
                    groups[i].append(thing)
                    rest.remove(thing)
    return groups


def _words(entry: Mapping[str, Any]) -> str:
    """An entry, or things of one kind, as a caption would have it: "two red circles"."""
    count = entry["count"]
    number = _NUMBERS[count - 1] if count <= len(_NUMBERS) else str(count)
    kind = f"{entry['class']}{'s' if count > 1 else ''}"
    return " ".join(filter(None, (number, entry.get("color"), kind)))


def _describe(things: Sequence[Detection]) -> str:
    """What was found, e.g. "two red circles, one murky thing"."""
    kinds = Counter((thing.shape or "thing", thing.color or "murky") for thing in things)
    words = [
        _words({"class": shape, "color": color, "count": count})
        for (shape, color), count in kinds.items()
    ]
    return ", ".join(words) or "nothing"


class CompositionReward:
    """The mean of ``composition_terms``, for prompts about circles, squares, triangles and stars.

    Args:
        strict: things that were not asked for lower the score.
    """

    name = "composition"
    range = (0.0, 1.0)

    def __init__(self, strict: bool = True) -> None:
        self.strict = strict
        self.settings: dict[str, Any] = {"strict": strict}

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` at the first prompt that asks for what the detector cannot see."""
        for prompt in prompts:
            _asked(prompt)

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Details: "found", what is in the picture in words; "terms", each with its value.

        Raises:
            RewardError: an image cannot be read.
        """
        values, details = [], []
        for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            check_cancelled()
            include = _asked(prompt)
            try:
                things = detect_shapes(image)
            except (OSError, ValueError) as error:
                raise RewardError(
                    f"composition: image {i} of {prompt.text!r} cannot be read: {error}"
                ) from error
            terms = composition_terms(include, things, self.strict)
            values.append(sum(value for _, value in terms) / len(terms))
            details.append(
                {
                    "found": _describe(things),
                    "terms": [{"term": words, "value": round(v, 3)} for words, v in terms],
                }
            )
        return RewardResult(np.array(values, dtype=np.float32), details)


def _asked(prompt: Prompt) -> tuple[dict[str, Any], ...]:
    """The prompt's own ``include`` checked, or what its text says."""
    if not prompt.include:
        return parse_include(prompt.text)
    try:
        include = Prompt.from_json(prompt.to_json()).include
    except ValueError as error:
        raise InputError("prompts", f"{prompt.text!r}: {error}", _UNDERSTOOD) from error
    for entry in include:
        if entry["class"] not in SHAPES or entry.get("color", "red") not in COLORS:
            raise InputError(
                "prompts",
                f"{prompt.text!r} asks for {_words(entry)}",
                f"This reward sees {', '.join(SHAPES)} in {', '.join(COLORS)}, nothing else.",
            )
    return include
