"""The composition reward: are the right things there, in number, colour and position?

After GenEval (Ghosh et al., arXiv 2310.11513), with partial credit for each of its questions. Things are
found by the exact detector of ``shapes.py``, made for flat shapes on a light wall, or in photographs by the
networks of ``detection.py``.
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
from .base import RewardResult, naming_image
from .composition_prompts import NUMBERS, UNDERSTOOD, parse_include, parse_nouns
from .shapes import COLORS, SHAPES, Detection, detect_shapes

if TYPE_CHECKING:
    from PIL import Image

    from .detection import PhotoDetector

Entry = Mapping[str, Any]
"""An entry of ``Prompt.include``: "class", "count" and, optionally, "color" and "position"."""
PositionRule = Callable[[str, Detection, Detection], bool]
"""Whether the first of two things is, for example, "left of" the second."""

_BY_CENTERS: dict[str, Callable[[Detection, Detection], bool]] = {
    "left of": lambda a, b: a.center[0] < b.center[0],
    "right of": lambda a, b: a.center[0] > b.center[0],
    "above": lambda a, b: a.center[1] < b.center[1],
    "below": lambda a, b: a.center[1] > b.center[1],
}


def position_by_centers(relation: str, a: Detection, b: Detection) -> bool:
    """Return whether ``a`` is, for example, "left of" ``b``, by the centres of their boxes."""
    return _BY_CENTERS[relation](a, b)


def composition_terms(
    include: Sequence[Entry],
    detections: Sequence[Detection],
    strict: bool = True,
    position: PositionRule = position_by_centers,
) -> list[tuple[str, float]]:
    """Return the questions of the reward in words, each with its value in [0, 1].

    - The number of every entry: ``max(0, 1 - |asked - found| / asked)``. Things of one class are shared
      out among its entries, those of the right colour first.
    - For every entry with a colour the same, over the things of its class and colour.
    - For every position, the share of pairs of one thing from each entry that have it; 0 if one of the
      entries has no things.
    - With ``strict``, what was not asked for: ``max(0, 1 - others / asked in all)``.
    """
    groups = _share_out(include, detections)
    terms = []
    for entry, group in zip(include, groups, strict=True):
        terms.append((f"{_phrase(entry)}: number", _count_score(entry["count"], len(group))))
        if "color" in entry:
            same_class = [
                (other, members)
                for other, members in zip(include, groups, strict=True)
                if other["class"] == entry["class"] and "color" in other
            ]
            asked = sum(e["count"] for e, _ in same_class if e["color"] == entry["color"])
            found = sum(d.color == entry["color"] for _, members in same_class for d in members)
            terms.append((f"{_phrase(entry)}: color", _count_score(asked, found)))
        if "position" in entry:
            relation, index = entry["position"]
            pairs = [position(relation, a, b) for a in group for b in groups[index]]
            question = f"{_phrase(entry)} {relation} {_phrase(include[index])}"
            terms.append((question, sum(pairs) / len(pairs) if pairs else 0.0))
    if strict:
        others = len(detections) - sum(len(group) for group in groups)
        asked = sum(entry["count"] for entry in include)
        terms.append(("nothing else", max(0.0, 1 - others / asked)))
    return terms


def _count_score(asked: int, found: int) -> float:
    return max(0.0, 1 - abs(asked - found) / asked)


def _share_out(include: Sequence[Entry], detections: Sequence[Detection]) -> list[list[Detection]]:
    """Return the things that count for each entry; each thing goes to one entry of its class.

    In turn: things of the asked colour, up to the asked number; things of any colour, up to the asked
    number, beginning with entries without a colour; then the rest, to an entry of their colour, else to
    the one in which one too many weighs least.
    """
    groups: list[list[Detection]] = [[] for _ in include]
    order = sorted(range(len(include)), key=lambda i: ("color" in include[i], -include[i]["count"]))
    rest = list(detections)
    for same_color, within_count in ((True, True), (False, True), (True, False), (False, False)):
        for i in order:
            entry = include[i]
            for detection in list(rest):
                if within_count and len(groups[i]) == entry["count"]:
                    break
                if detection.shape != entry["class"]:
                    continue
                if not same_color or ("color" in entry and detection.color == entry["color"]):
                    groups[i].append(detection)
                    rest.remove(detection)
    return groups


def _phrase(entry: Entry) -> str:
    """Return an entry as a caption would have it: "two red circles"."""
    count = entry["count"]
    number = NUMBERS[count - 1] if count <= len(NUMBERS) else str(count)
    noun = f"{entry['class']}{'s' if count > 1 else ''}"
    return " ".join(filter(None, (number, entry.get("color"), noun)))


def _describe(detections: Sequence[Detection]) -> str:
    """Describe what was found: "two red circles, one murky thing"."""
    kinds = Counter((d.shape or "thing", d.color or "murky") for d in detections)
    phrases = [
        _phrase({"class": shape, "color": color, "count": count})
        for (shape, color), count in kinds.items()
    ]
    return ", ".join(phrases) or "nothing"


class CompositionReward:
    """The mean of ``composition_terms``.

    Args:
        strict: things that were not asked for lower the score. A detector for photographs looks only for
            what is asked for, so with one this has no effect.
        detector: for photographs; None detects circles, squares, triangles and stars.

    >>> CompositionReward().score([image_of_two_stars], [Prompt("one star")]).values  # doctest: +SKIP
    array([0.5], dtype=float32)
    """

    name = "composition"
    range = (0.0, 1.0)

    def __init__(self, strict: bool = True, detector: PhotoDetector | None = None) -> None:
        self.strict, self.detector = strict, detector
        self.settings: dict[str, Any] = {"strict": strict}
        if detector is not None:
            self.settings = {"detector": detector.identity}

    def active(self) -> AbstractContextManager[Any]:
        """Keep the networks on their device within this context."""
        return contextlib.nullcontext() if self.detector is None else self.detector.active()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` at the first prompt that asks for what the detector cannot see."""
        for prompt in prompts:
            self._include(prompt)
        if self.detector is not None:
            self.detector.check()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are "found", the image's content in words, and "terms" with their values.

        Raises:
            RewardError: an image cannot be read.
        """
        values, details = [], []
        for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
            check_cancelled()
            include = self._include(prompt)
            with naming_image(self, i, prompt, OSError, ValueError):
                detections, terms = self._terms(image, include, prompt)
            values.append(sum(value for _, value in terms) / len(terms))
            details.append(
                {
                    "found": _describe(detections),
                    "terms": [{"term": term, "value": round(v, 3)} for term, v in terms],
                }
            )
        return RewardResult(np.array(values, dtype=np.float32), details)

    def _terms(
        self, image: Image.Image, include: Sequence[Entry], prompt: Prompt
    ) -> tuple[list[Detection], list[tuple[str, float]]]:
        if self.detector is None:
            detections = detect_shapes(image)
            return detections, composition_terms(include, detections, self.strict)
        from .detection import position_by_boxes

        detections = self.detector.detect(image, [*include, *prompt.exclude])
        terms = composition_terms(include, detections, strict=False, position=position_by_boxes)
        asked = {entry["class"] for entry in include}
        for entry in prompt.exclude:
            if entry["class"] not in asked:  # otherwise its number is a term already
                found = sum(detection.shape == entry["class"] for detection in detections)
                terms.append((f"no {entry['class']}", float(found < entry["count"])))
        return detections, terms

    def _include(self, prompt: Prompt) -> tuple[dict[str, Any], ...]:
        """Return the prompt's own ``include``, checked, or what its text asks for."""
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
                    f"{prompt.text!r} asks for {_phrase(entry)}",
                    f"This reward sees {', '.join(SHAPES)} in {', '.join(COLORS)}, nothing else.",
                )
        return include
