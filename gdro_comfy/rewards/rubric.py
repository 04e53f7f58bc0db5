"""What a vision-language model is asked about an image, and how its answer becomes numbers.

Where an answer comes with the probabilities of its tokens, a score is their expectation
``sum p(v) v / sum p(v)`` over the values ``v`` that could have stood there. Two images that both get a 4 are
still told apart, which is what a ranking inside a group needs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ..errors import InputError

_NUMBER = r"(-?\d+(?:[.,]\d+)?(?:[eE][-+]?\d{1,2})?)"
_TAGS = "think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad"
_THINKING = rf"<(?:\w+:)?(?:{_TAGS})>|\[THINK\]|◁think▷|<\|channel\|>(?:analysis|commentary)"
_ANSWERING = rf"</(?:\w+:)?(?:{_TAGS})>|\[/THINK\]|◁/think▷|<\|channel\|>final<\|message\|>"
_THOUGHTS = re.compile(rf"(?:{_THINKING}).*?(?:{_ANSWERING}|$)", re.DOTALL | re.IGNORECASE)
_UNOPENED = re.compile(rf"^.*(?:{_ANSWERING})", re.DOTALL | re.IGNORECASE)
"""Thoughts whose beginning is part of the question, as some models' templates have it."""
_OF = re.compile(r"[\s\"'*]*(?:/|(?:out )?of\b)\s*(\d+(?:[.,]\d+)?)", re.IGNORECASE)
_PERCENT = re.compile(r"\s*(?:%|percent\b)", re.IGNORECASE)
_RANGE = re.compile(r"\s*(?:-|–|—|~|to\b|or\b)\s*\d", re.IGNORECASE)
_OF_THE_WHOLE = frozenset(
    {"overall", "final", "total", "my", "the", "your", "a", "and", "is", "image", "picture"}
)
"""What may stand before the name of a score; another word makes it the score of a part."""
_MIN_PROBABILITY = 0.5  # that scores of the scale must share; with less, the written score counts


class UnreadableAnswer(ValueError):
    """An answer without a score on the scale; the message quotes it."""


class Refusal(RuntimeError):
    """The model does not judge this image; the message says why."""


@dataclass(frozen=True)
class Token:
    """A token of an answer.

    Args:
        text: the token.
        probabilities: of the tokens that could have stood in its place, itself among them.
    """

    text: str
    probabilities: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """What a model wrote.

    Args:
        text: the whole of it.
        tokens: the same in tokens with probabilities; empty where these are not known.
        truncated: the limit on its length ended it.
        usage: tokens in and out, as the model counted them.
    """

    text: str
    tokens: tuple[Token, ...] = ()
    truncated: bool = False
    usage: tuple[int, int] = (0, 0)


@dataclass(frozen=True)
class Rubric:
    """A question about one image, and the scale of its answers.

    Args:
        instructions: the question; ``{prompt}`` stands for the image's prompt.
        scores: names of the numbers in an answer; the reward is their mean.
        worst, best: the ends of the scale; ``worst`` may be the larger number.
        structured: endpoints may be required to answer in JSON.
        reason: a sentence of reason comes before the score.
        pictures: how many images a question is about.
    """

    pictures: ClassVar[int] = 1
    instructions: str
    scores: tuple[str, ...]
    worst: float
    best: float
    structured: bool = True
    reason: bool = False

    @property
    def low(self) -> float:
        """The smaller end of the scale."""
        return min(self.worst, self.best)

    @property
    def high(self) -> float:
        """The larger end of the scale."""
        return max(self.worst, self.best)

    @property
    def whole_numbers(self) -> bool:
        """Whether scores are whole numbers: the ends of the scale are, and lie at least 2 apart."""
        ends = float(self.worst).is_integer() and float(self.best).is_integer()
        return ends and self.high - self.low >= 2

    @property
    def one_digit(self) -> bool:
        """Whether every score is one digit, so that it is one token and cannot be truncated."""
        return self.whole_numbers and self.low >= 0 and self.high <= 9

    def question(self, prompt: str) -> str:
        """Return the question about an image of this prompt."""
        return self.instructions.replace("{prompt}", prompt)

    def value(self, scores: dict[str, float]) -> float:
        """Return the mean of the scores, scaled so that ``worst`` is 0 and ``best`` is 1."""
        mean = sum(scores.values()) / len(scores)
        return (mean - self.worst) / (self.best - self.worst)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a structured answer."""
        score: dict[str, Any] = {"type": "number"}
        if self.whole_numbers:
            score = {"type": "integer"}
            if self.high - self.low <= 20:
                score["enum"] = list(range(int(self.low), int(self.high) + 1))
        fields: dict[str, Any] = {"reason": {"type": "string"}} if self.reason else {}
        fields.update(dict.fromkeys(self.scores, score))
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    def read(self, answer: Answer) -> dict[str, float]:
        """Return the scores in an answer by name.

        Understood are JSON, lines such as "Score: 4" and, for a single score, a bare number, after the
        thoughts of the model. "4/5" counts if 5 is the larger end of the scale, "80%" on a scale from 0 to
        100; "3-4" is no score. Of an answer that was cut only a score at its very beginning counts.

        Raises:
            UnreadableAnswer: a score is missing, off the scale, or truncated.
        """
        text = without_thoughts(answer.text)
        scores = {}
        for name in self.scores:
            match = _named_number(text, name)
            if match is None and len(self.scores) == 1:
                match = self._bare_number(text)
            may_be_cut = answer.truncated and not self.one_digit
            if match is None or (may_be_cut and match.end(1) == len(text.rstrip())):
                raise UnreadableAnswer(f"there is no {name} in the answer {excerpt(answer)}")
            if answer.truncated and len(self.scores) == 1 and not _is_first(text, match, name):
                raise UnreadableAnswer(f"the answer {excerpt(answer)} ends before its score")
            number = float(match[1].replace(",", "."))
            self._check_form(text[match.end(1) :], name, answer)
            if not self.low <= number <= self.high:
                raise UnreadableAnswer(
                    f"the {name} {number:g} in {excerpt(answer)} is off the scale"
                )
            scores[name] = self._expectation(answer, match.start(1), number)
        return scores

    def _check_form(self, rest: str, name: str, answer: Answer) -> None:
        """Raise ``UnreadableAnswer`` if what follows a number makes it another one."""
        whole, wrong = _OF.match(rest), ""
        if whole and float(whole[1].replace(",", ".")) != self.high:
            wrong = f"is out of {whole[1]}, while the scale ends at {self.high:g}"
        elif _PERCENT.match(rest) and (self.low, self.high) != (0, 100):
            wrong = f"is in percent, while the scale is {self.low:g} to {self.high:g}"
        elif _RANGE.match(rest):
            wrong = "is a range"
        if wrong:
            raise UnreadableAnswer(f"the {name} in {excerpt(answer)} {wrong}")

    def _bare_number(self, text: str) -> re.Match[str] | None:
        """Return the one number of an answer without names, whatever it says of the scale ("4 out of 5")."""
        scale = rf"(?<![\d.,]){self.low:g}\s*(?:to|-|–)\s*{self.high:g}\b"
        out_of = rf"(?:/|\bout of)\s*{self.high:g}\b"
        text = re.sub(f"{scale}|{out_of}", lambda match: " " * len(match[0]), text)
        numbers = list(re.finditer(rf"(?<![\w.,-]){_NUMBER}(?![\w])", text))
        return numbers[-1] if len({match[1] for match in numbers}) == 1 else None

    def _expectation(self, answer: Answer, start: int, number: float) -> float:
        """Return the expected score by the probabilities of its token.

        ``number``, the score that was written at ``start``, where these are not known, and where a score
        has more than one digit: "1" may be the beginning of "10".
        """
        if not self.one_digit:
            return number
        end = 0
        for token in answer.tokens:
            end += len(token.text)
            if end <= start:
                continue
            digits: dict[int, float] = {}
            for text, probability in token.probabilities.items():
                digit = text.strip(' "')
                if digit.isdecimal() and self.low <= int(digit) <= self.high:
                    digits[int(digit)] = digits.get(int(digit), 0.0) + probability
            total = sum(digits.values())
            if number not in digits or not total >= _MIN_PROBABILITY:  # NaN is not enough either
                return number
            return sum(digit * probability for digit, probability in digits.items()) / total
        return number


def _named_number(text: str, name: str) -> re.Match[str] | None:
    """Return the last "name: number" of a text, in JSON or in words."""
    label = rf"\b{re.escape(name)}\b[\"'*]*(?:\s+score\b)?\s*(?:\([^)\n]*\))?[\"'*]*\s*[:=]"
    matches = list(re.finditer(rf"{label}[\s\"'*\[]*{_NUMBER}", text, re.IGNORECASE))
    whole = [match for match in matches if _is_of_the_whole(text[: match.start()])]
    if whole:
        return whole[-1]
    return matches[-1] if len({match[1] for match in matches}) == 1 else None


def _is_of_the_whole(before: str) -> bool:
    """Return whether a name after these words is the score of all, not of a part ("composition score")."""
    words = re.search(r"(\w+)[ \t\"'*_]*$", before)
    return words is None or words[1].lower() in _OF_THE_WHOLE or '"' in words[0]


def _is_first(text: str, match: re.Match[str], name: str) -> bool:
    """Return whether nothing but the score's name stands before it."""
    return (
        re.fullmatch(rf"[\W_]*(?:{re.escape(name)}[\W_]*)?", text[: match.start(1)], re.IGNORECASE)
        is not None
    )


def without_thoughts(text: str) -> str:
    """Return an answer with spaces where the model thought aloud, so that positions stay."""
    for thoughts in (_THOUGHTS, _UNOPENED):
        text = thoughts.sub(lambda match: " " * len(match[0]), text)
    return text


def excerpt(answer: Answer) -> str:
    """Return the start of an answer in quotes, for messages."""
    text = " ".join(answer.text.split())
    quoted = repr(text if len(text) <= 120 else f"{text[:117]}...")
    return f"{quoted} (cut at the token limit)" if answer.truncated else quoted


def question(question: str, worst: float = 1.0, best: float = 5.0, reason: bool = False) -> Rubric:
    """Return the rubric of a question in the user's own words, which is answered with one number.

    >>> question("How cosy does this room look?").scores
    ('score',)

    Raises:
        InputError: the question is empty, or the two ends of the scale are equal.
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
    whole = Rubric("", ("score",), worst, best).whole_numbers
    kind = "a whole number" if whole else "a number"
    scale = f"{question.strip()}\n\nThe score is {kind} from {low:g} to {high:g}. "
    return Rubric(f"{scale}Answer with JSON only: {form}", ("score",), worst, best, True, reason)


def unified_reward() -> Rubric:
    """Return the rubric of UnifiedReward's three scores, 1 to 5 each (Wang et al., arXiv 2503.05236).

    The fine-tuned models answer in this form, a line for each score.
    """
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
