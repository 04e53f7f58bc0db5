"""What a vision-language model is asked about a picture, and how its answer becomes numbers.

Where the answer comes with the probabilities of its tokens, a score is their expectation
``sum p(v) v / sum p(v)`` over the numbers that could have stood there: two pictures that would both
get a 4 are still told apart, which is what ranking inside a group needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError

_NUMBER = r"(-?\d+(?:[.,]\d+)?)"
_THOUGHTS = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
_LEAST_KNOWN = 0.5  # of the probability must lie on numbers of the scale, else the answer counts


class Unreadable(ValueError):
    """An answer without a score on the scale; the message shows it."""


class Refused(RuntimeError):
    """The model does not judge this picture; the message says why."""


@dataclass(frozen=True)
class Token:
    """A token of an answer, with the probabilities of those that could have stood in its place."""

    text: str
    likely: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Args:
        text: all of it.
        tokens: the same, in tokens with their probabilities; empty where these are not known.
        cut: it was ended by the limit on its length.
        usage: tokens in and out, as the model counted them.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    cut: bool = False
    usage: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Rubric:
    """A question about one picture, and the scale of its answers.

    Args:
        instructions: what the model is told; ``{prompt}`` stands for the picture's prompt.
        scores: the names of the numbers that it gives; the reward is their mean.
        worst, best: the scale; ``worst`` may be the larger number.
        structured: an answer as JSON may be demanded of an endpoint.
        reason: a sentence of reason comes before the score.
    """

    instructions: str
    scores: tuple[str, ...]
    worst: float
    best: float
    structured: bool = True
    reason: bool = False

    @property
    def low(self) -> float:
        return min(self.worst, self.best)

    @property
    def high(self) -> float:
        return max(self.worst, self.best)

    @property
    def whole(self) -> bool:
        """The scale has whole numbers only: its ends are whole, and at least 2 apart."""
        ends = float(self.worst).is_integer() and float(self.best).is_integer()
        return ends and self.high - self.low >= 2

    @property
    def one_digit(self) -> bool:
        """Every score is one digit, so that it is one token and cannot be cut in two."""
        return self.whole and self.low >= 0 and self.high <= 9

    def text(self, prompt: str) -> str:
        """The question about a picture of this prompt."""
        return self.instructions.replace("{prompt}", prompt)

    def value(self, scores: dict[str, float]) -> float:
        """The mean of the scores, with ``worst`` at 0 and ``best`` at 1."""
        mean = sum(scores.values()) / len(scores)
        return (mean - self.worst) / (self.best - self.worst)

    def schema(self) -> dict[str, Any]:
        """JSON schema of a structured answer."""
        kind: dict[str, Any] = {"type": "number"}
        if self.whole:
            kind = {"type": "integer"}
            if self.high - self.low <= 20:
                kind["enum"] = list(range(int(self.low), int(self.high) + 1))
        fields: dict[str, Any] = {"reason": {"type": "string"}} if self.reason else {}
        fields.update(dict.fromkeys(self.scores, kind))
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    def read(self, answer: Answer) -> dict[str, float]:
        """The scores in an answer: JSON, lines such as "Score: 4", or for one score a bare number.

        Raises:
            Unreadable: a score is missing, off the scale, or cut short.
        """
        text = _THOUGHTS.sub(lambda m: " " * len(m[0]), answer.text)
        found = {}
        for name in self.scores:
            match = _named(text, name)
            if match is None and len(self.scores) == 1:
                match = self._bare(text)
            cut = answer.cut and not self.one_digit
            if match is None or (cut and match.end(1) == len(text.rstrip())):
                raise Unreadable(f"there is no {name} in the answer {_shown(answer)}")
            number = float(match[1].replace(",", "."))
            if not self.low <= number <= self.high:
                raise Unreadable(f"the {name} {number:g} in {_shown(answer)} is off the scale")
            found[name] = self._expected(answer, match.start(1), number)
        return found

    def _bare(self, text: str) -> re.Match[str] | None:
        """The one number of an answer without names, whatever scale it repeats ("4 out of 5")."""
        scale = rf"(?<![\d.,]){self.low:g}\s*(?:to|-|–)\s*{self.high:g}\b"
        of = rf"(?:/|\bout of)\s*{self.high:g}\b"
        plain = re.sub(f"{scale}|{of}", lambda m: " " * len(m[0]), text)
        found = list(re.finditer(rf"(?<![\w.,-]){_NUMBER}(?![\w])", plain))
        return found[-1] if len({match[1] for match in found}) == 1 else None

    def _expected(self, answer: Answer, start: int, number: float) -> float:
        """The expectation of a one-digit score by its token's probabilities, else the number."""
        if not self.one_digit:
            return number  # "1" may be the beginning of "10"
        place = 0
        for token in answer.tokens:
            place += len(token.text)
            if place <= start:
                continue
            likely: dict[int, float] = {}
            for text, probability in token.likely.items():
                digit = text.strip(' "')
                if digit.isdecimal() and self.low <= int(digit) <= self.high:
                    likely[int(digit)] = likely.get(int(digit), 0.0) + probability
            known = sum(likely.values())
            if number not in likely or known < _LEAST_KNOWN:
                return number
            return sum(value * p for value, p in likely.items()) / known
        return number


def _named(text: str, name: str) -> re.Match[str] | None:
    """The last "name: number" of a text, in JSON or in words."""
    label = rf"\b{re.escape(name)}\b[\"'*]*(?:\s+score\b)?\s*(?:\([^)\n]*\))?[\"'*]*\s*[:=]"
    found = list(re.finditer(rf"{label}[\s\"'*\[]*{_NUMBER}", text, re.IGNORECASE))
    return found[-1] if found else None


def _shown(answer: Answer) -> str:
    text = " ".join(answer.text.split())
    shown = repr(text if len(text) <= 120 else f"{text[:117]}...")
    return f"{shown} (cut at the token limit)" if answer.cut else shown


def question(question: str, worst: float = 1.0, best: float = 5.0, reason: bool = False) -> Rubric:
    """A question in the user's own words, answered with one number.

    Raises:
        InputError: it is empty, or the scale has no length.
    """
    if not question.strip():
        raise InputError(
            "question", "it is empty", 'Ask something, such as "How cosy does this room look?"'
        )
    if not abs(worst - best) > 1e-9:
        raise InputError(
            "best", f"it equals worst ({worst:g})", "Give the scale two different ends."
        )
    form = '{"reason": "one short sentence", "score": number}' if reason else '{"score": number}'
    low, high = min(worst, best), max(worst, best)
    whole = "a whole number" if Rubric("", ("score",), worst, best).whole else "a number"
    scale = f"{question.strip()}\n\nThe score is {whole} from {low:g} to {high:g}. "
    return Rubric(f"{scale}Answer with JSON only: {form}", ("score",), worst, best, True, reason)


def unified_reward() -> Rubric:
    """UnifiedReward's three scores, 1 to 5 each (Wang et al., arXiv 2503.05236), in the form of
    answer that the fine-tuned models give: a line for each score."""
    return Rubric(
        "Here is a generated image with the text caption it was made from. Rate the image on three "
        "axes, each from 1 to 5:\n"
        "- Alignment Score: does the content of the image match the caption?\n"
        "- Coherence Score: is the image consistent in itself, free of glitches and distortions?\n"
        "- Style Score: is the image pleasing to look at, whatever the caption says?\n\n"
        "Give the evaluation in this format:\n\n"
        "Alignment Score (1-5): X\nCoherence Score (1-5): Y\nStyle Score (1-5): Z\n\n"
        "Text Caption: [{prompt}]",
        ("alignment", "coherence", "style"),
        1.0,
        5.0,
        structured=False,
    )
