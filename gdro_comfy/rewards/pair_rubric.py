"""What a vision-language model is asked about two images, and how its answer becomes a verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import InputError
from .rubric import Answer, UnreadableAnswer, excerpt, without_thoughts

FIRST, SECOND, TIE = VERDICTS = ("first", "second", "tie")

_NAMES = {
    FIRST: r"first|(?:image|picture|option)\s*(?:1|one|a)|1st|left",
    SECOND: r"second|(?:image|picture|option)\s*(?:2|two|b)|2nd|right",
    TIE: r"tied?|equal(?:ly)?|neither|both|same|draw",
}
_FIELD = re.compile(
    r"\b(?:better|winner|verdict|answer)\b[\"'*]*\s*[:=][\s\"'*]*([\w ]+)", re.IGNORECASE
)
_SENTENCES = (
    r"\b(?:{})\b\W+(?:(?:image|picture|one)\W+)?(?:is|looks|wins)\b(?:[^.\n]{{0,30}}\b(?:better|best)\b|\W*$)",
    r"\b(?:prefer|choose|pick|wins:)\W+(?:the\W+)?(?:{})\b",
    r"\b(?:{})\b",
)
"""Ways to say a verdict, from the clearest to its bare name."""


@dataclass(frozen=True)
class PairRubric:
    """A question about two images of one prompt.

    Args:
        instructions: the question; ``{prompt}`` stands for the images' prompt.
        structured: endpoints may be required to answer in JSON.
        reason: a sentence of reason comes before the verdict.
        pictures: how many images a question is about.
    """

    pictures: ClassVar[int] = 2
    instructions: str
    structured: bool = True
    reason: bool = False

    def question(self, prompt: str) -> str:
        """Return the question about two images of this prompt."""
        return self.instructions.replace("{prompt}", prompt)

    def schema(self) -> dict[str, Any]:
        """Return the JSON schema of a structured answer."""
        fields: dict[str, Any] = {"reason": {"type": "string"}} if self.reason else {}
        fields["better"] = {"type": "string", "enum": list(VERDICTS)}
        return {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }

    def read(self, answer: Answer) -> str:
        """Return the verdict in an answer: one of ``VERDICTS``.

        Understood are JSON, lines such as "Better: second", sentences such as "Image 1 is better", and a bare
        verdict, after the thoughts of the model.

        Raises:
            UnreadableAnswer: there is no verdict, or there are several.
        """
        text = without_thoughts(answer.text)
        named = (_verdict(match[1]) for match in _FIELD.finditer(text))
        found = {verdict for verdict in named if verdict is not None}
        for sentence in _SENTENCES:
            found = found or {
                verdict
                for verdict, names in _NAMES.items()
                if re.search(sentence.format(names), text, re.IGNORECASE | re.MULTILINE)
            }
        if len(found) != 1:
            what = "several verdicts" if found else "no verdict"
            raise UnreadableAnswer(f"there is {what} in the answer {excerpt(answer)}")
        return found.pop()


def _verdict(text: str) -> str | None:
    """Return the verdict that a text begins with."""
    for verdict, names in _NAMES.items():
        if re.match(rf"\s*(?:the\s+)?(?:{names})\b", text, re.IGNORECASE):
            return verdict
    return {"1": FIRST, "2": SECOND, "a": FIRST, "b": SECOND}.get(text.strip().lower())


def comparison(question: str, reason: bool = False) -> PairRubric:
    """Return the rubric of a comparison in the user's own words.

    Raises:
        InputError: the question is empty.
    """
    if not question.strip():
        raise InputError(
            "question", "it is empty", 'Ask something, such as "Which picture is cosier?"'
        )
    form = '{"better": "first", "second" or "tie"}'
    if reason:
        form = '{"reason": "one short sentence", "better": "first", "second" or "tie"}'
    return PairRubric(
        f"Compare the two images, the first and the second.\n\n{question.strip()}\n\n"
        f"Their order means nothing. Answer with JSON only: {form}",
        reason=reason,
    )
