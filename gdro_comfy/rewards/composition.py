"""The composition reward: are the right things there, in number, colour and position?

After GenEval (Ghosh et al., arXiv 2310.11513), with partial credit for each of its questions. Things
are found by the exact detector of ``shapes.py``, made for flat shapes on a light wall, or in
photographs by the networks of ``detection.py``.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.prompts import Prompt
from ..errors import InputError
from .base import RewardError, RewardResult
from .composition_prompts import NUMBERS, UNDERSTOOD, parse_include, parse_nouns
from .shapes import COLORS, SHAPES, Detection, detect_shapes

if TYPE_CHECKING:
    from PIL import Image

    from .detection import PhotoDetector

Relation = Callable[[str, Detection, Detection], bool]
_HOLDS: dict[str, Callable[[Detection, Detection], bool]] = {
    "left of": lambda a, b: a.center[0] < b.center[0],
    "right of": lambda a, b: a.center[0] > b.center[0],
    "above": lambda a, b: a.center[1] < b.center[1],
    "below": lambda a, b: a.center[1] > b.center[1],
}


def by_centers(relation: str, a: Detection, b: Detection) -> bool:
    """Whether ``a`` stands so, seen from ``b``, by the centres of their boxes."""
    return _HOLDS[relation](a, b)


def composition_terms(
    include: Sequence[Mapping[str, Any]],
    things: Sequence[Detection],
    strict: bool = True,
    holds: Relation = by_centers,
) -> list[tuple[str, float]]:
    """The questions of the reward, in words, each with its value in [0, 1].

    - For every entry its number: ``max(0, 1 - |asked - found| / asked)``. Things of one class are
      dealt out to the entries of that class: first those of the right colour, then the others.
    - For every entry with a colour the same, over the things of that class and colour.
    - For every position, the share of pairs of one thing from each entry that stand so, by
      ``holds``; 0 if either entry has none.
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
            pairs = [holds(relation, a, b) for a in group for b in groups[index]]
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
    number = NUMBERS[count - 1] if count <= len(NUMBERS) else str(count)
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
    """The mean of ``composition_terms``.

    Args:
        strict: things that were not asked for lower the score. A detector of photographs looks only
            for what is asked for, so with one this has no effect.
        detector: of things in photographs; without it, circles, squares, triangles and stars.
    """

    name = "composition"
    range = (0.0, 1.0)

    def __init__(self, strict: bool = True, detector: PhotoDetector | None = None) -> None:
        self.strict, self.detector = strict, detector
        self.settings: dict[str, Any] = {"strict": strict}
        if detector is not None:
            self.settings = {"detector": detector.identity}

    def active(self) -> AbstractContextManager[Any]:
        """Within this context the networks stay on their device."""
        return contextlib.nullcontext() if self.detector is None else self.detector.active()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` at the first prompt that asks for what the detector cannot see."""
        for prompt in prompts:
            self._asked(prompt)
        if self.detector is not None:
            self.detector.check()

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
            include = self._asked(prompt)
            try:
                things, terms = self._judge(image, include, prompt)
            except (OSError, ValueError) as error:
                raise RewardError(
                    f"composition: image {i} of {prompt.text!r} cannot be read: {error}"
                ) from error
            values.append(sum(value for _, value in terms) / len(terms))
            details.append(
                {
                    "found": _describe(things),
                    "terms": [{"term": words, "value": round(v, 3)} for words, v in terms],
                }
            )
        return RewardResult(np.array(values, dtype=np.float32), details)

    def _judge(
        self, image: Image.Image, include: Sequence[Mapping[str, Any]], prompt: Prompt
    ) -> tuple[list[Detection], list[tuple[str, float]]]:
        if self.detector is None:
            things = detect_shapes(image)
            return things, composition_terms(include, things, self.strict)
        from .detection import stands

        things = self.detector.find(image, [*include, *prompt.exclude])
        terms = composition_terms(include, things, strict=False, holds=stands)
        asked = {entry["class"] for entry in include}
        for entry in prompt.exclude:
            if entry["class"] not in asked:  # else its number says it already
                found = sum(thing.shape == entry["class"] for thing in things)
                terms.append((f"no {entry['class']}", float(found < entry["count"])))
        return things, terms

    def _asked(self, prompt: Prompt) -> tuple[dict[str, Any], ...]:
        """The prompt's own ``include`` checked, or what its text says."""
        photo = self.detector is not None
        if not prompt.include:
            return parse_nouns(prompt.text) if photo else parse_include(prompt.text)
        try:
            include = Prompt.from_json(prompt.to_json()).include
        except ValueError as error:
            raise InputError("prompts", f"{prompt.text!r}: {error}", UNDERSTOOD) from error
        for entry in include:
            known = entry["class"] in SHAPES and entry.get("color", "red") in COLORS
            if not photo and not known:
                raise InputError(
                    "prompts",
                    f"{prompt.text!r} asks for {_words(entry)}",
                    f"This reward sees {', '.join(SHAPES)} in {', '.join(COLORS)}, nothing else.",
                )
        return include
