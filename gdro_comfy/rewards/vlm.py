"""The VLM reward: a vision-language model answers a question about the image.

Every answer is stored as it comes (``answer_cache.py``). A run that was cancelled or has failed continues
after the last answer, and no image is paid for twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..data.files import digest
from ..data.prompts import Prompt
from ..errors import InputError
from .answer_cache import AnswerCache, answer_key
from .base import RewardError, RewardResult
from .rubric import Answer, Refusal, Rubric

if TYPE_CHECKING:
    from PIL import Image

ON_REFUSAL = ("stop", "worst score")


class Judge(Protocol):
    """Something that answers questions about images."""

    identity: dict[str, Any]
    """What its answers depend on, JSON-able, without secrets."""

    def check(self) -> None:
        """Raise ``InputError`` if it cannot be asked, before any work."""
        ...

    def estimate(self, images: int, size: tuple[int, int], rubric: Rubric) -> str:
        """Describe what it costs to ask about this many images of this size."""
        ...

    def ask(
        self,
        questions: Sequence[tuple[Image.Image, str]],
        rubric: Rubric,
        check_cancelled: Callable[[], None],
    ) -> Generator[tuple[int, Answer | Refusal], None, None]:
        """Yield answers that ``rubric`` can read, in any order, each with the index of its question."""
        ...


class VLMReward:
    """The mean of a rubric's scores: 0 at the worst end of its scale, 1 at the best.

    Args:
        rubric: what is asked.
        judge: who answers.
        on_refusal: for an image that the model does not judge, "stop" ends the scoring and names the
            image; "worst score" gives it 0 and says so in the details.
        folder: where answers are stored; None keeps them in memory.
        name: the reward's name in files and tables.

    >>> judge = Endpoint(EndpointConfig("http://localhost:11434/v1", "qwen2.5vl"))  # doctest: +SKIP
    >>> VLMReward(question("How cosy is it?"), judge).score(images, prompts).values  # doctest: +SKIP
    array([0.25, 0.8125], dtype=float32)
    """

    range = (0.0, 1.0)

    def __init__(
        self,
        rubric: Rubric,
        judge: Judge,
        on_refusal: str = "stop",
        folder: Path | None = None,
        name: str = "vlm",
    ) -> None:
        if on_refusal not in ON_REFUSAL:
            raise InputError(
                "on_refusal", f"{on_refusal!r} is unknown", f"Use one of {', '.join(ON_REFUSAL)}."
            )
        self.name, self.rubric, self.judge, self.on_refusal = name, rubric, judge, on_refusal
        identity = {
            "instructions": rubric.instructions,
            "scale": [rubric.worst, rubric.best],
            "judge": judge.identity,
        }
        self.settings: dict[str, Any] = {**identity, "on_refusal": on_refusal}
        file = None if folder is None else folder / f"{name}-{digest(identity)}.jsonl"
        self._answers = AnswerCache(file)

    def active(self) -> AbstractContextManager[Any]:
        """Keep a local model on its device within this context."""
        return getattr(self.judge, "active", contextlib.nullcontext)()

    def estimate(self, images: int, size: tuple[int, int]) -> str:
        """Describe what scoring costs if none of the images was judged before."""
        return self.judge.estimate(images, size, self.rubric)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if the judge cannot be asked; every prompt is suitable."""
        self.judge.check()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are the scores on their own scale by name, and "answer", the model's text.

        Raises:
            RewardError: an image was refused, after all others were judged; or the judge failed.
        """
        texts = [self.rubric.question(prompt.text) for prompt in prompts]
        keys = [answer_key(*pair) for pair in zip(images, texts, strict=True)]
        # An image that comes twice in a batch is asked about once.
        missing = [
            i
            for i, key in enumerate(keys)
            if i == keys.index(key) and self._answers.get(key) is None
        ]
        questions = [(images[i], texts[i]) for i in missing]
        refusals: dict[str, str] = {}
        try:
            # Closed at once, also after an error, so that no call continues unnoticed.
            with contextlib.closing(
                self.judge.ask(questions, self.rubric, check_cancelled)
            ) as answers:
                for index, answer in answers:
                    key = keys[missing[index]]
                    if isinstance(answer, Refusal):
                        refusals[key] = str(answer)
                    else:
                        self._answers.put(key, self._row(answer))
        except (InputError, RewardError):
            raise
        except RuntimeError as error:
            raise RewardError(
                f"{self.name}: {error} ({len(missing)} pictures were asked about; the answers that "
                "came are kept)"
            ) from error
        return self._result(keys, prompts, refusals)

    def _row(self, answer: Answer) -> dict[str, Any]:
        """Return what is stored of an answer."""
        scores = {name: round(value, 4) for name, value in self.rubric.read(answer).items()}
        row: dict[str, Any] = {"scores": scores, "answer": answer.text[:500]}
        if any(answer.usage):
            row["tokens"] = list(answer.usage)
        return row

    def _result(
        self, keys: Sequence[str], prompts: Sequence[Prompt], refusals: dict[str, str]
    ) -> RewardResult:
        values, details = [], []
        for i, key in enumerate(keys):
            if key in refusals:
                if self.on_refusal == "stop":
                    raise RewardError(
                        f"{self.name}: image {i} of {prompts[i].text!r} was not judged: "
                        f"{refusals[key]}. The answers on {len(keys) - len(refusals)} others of its "
                        f"batch are kept; with on_refusal = worst score, it gets 0 and scoring goes on"
                    )
                values.append(0.0)
                details.append({"refused": refusals[key]})
                continue
            row = self._answers.get(key) or {}
            values.append(self.rubric.value(row["scores"]))
            details.append({**row["scores"], "answer": row.get("answer", "")})
        return RewardResult(np.array(values, dtype=np.float32), details)
