"""The VLM reward: a vision-language model answers a question about the picture.

Every answer is kept as it comes (``answers.py``): a run that is cancelled or fails goes on from the
last answer, and the same picture is never paid for twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..data.files import digest
from ..data.prompts import Prompt
from ..errors import InputError
from .answer_cache import Answers, answer_key
from .base import RewardError, RewardResult
from .rubric import Answer, Refused, Rubric

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)

ON_REFUSAL = ("stop", "worst score")


class Judge(Protocol):
    """Something that answers questions about pictures."""

    identity: dict[str, Any]
    """What its answers depend on, JSON-able, without secrets."""

    def check(self) -> None:
        """Raise ``InputError`` if it cannot be asked, before any work."""
        ...

    def estimate(self, images: int, size: tuple[int, int], rubric: Rubric) -> str:
        """What it would cost to ask about this many pictures of this size, in words."""
        ...

    def ask(
        self,
        asked: Sequence[tuple[Image.Image, str]],
        rubric: Rubric,
        check_cancelled: Callable[[], None],
    ) -> Generator[tuple[int, Answer | Refused], None, None]:
        """Answers that ``rubric`` can read, in any order, each with the place of its question."""
        ...


class VLMReward:
    """The mean of a rubric's scores, the worst end of its scale at 0 and the best at 1.

    Args:
        rubric: what is asked.
        judge: who answers.
        on_refusal: what a picture gets that the model does not judge: "stop" ends the scoring and
            names it, "worst score" gives it 0 and says so in the details.
        folder: where answers are kept; None keeps them in memory.
        name: the reward's name in files and tables.
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
        asked = {
            "instructions": rubric.instructions,
            "scale": [rubric.worst, rubric.best],
            "judge": judge.identity,
        }
        self.settings: dict[str, Any] = {**asked, "on_refusal": on_refusal}
        file = None if folder is None else folder / f"{name}-{digest(asked)}.jsonl"
        self._answers = Answers(file)

    def active(self) -> AbstractContextManager[Any]:
        """Within this context a local model stays on its device."""
        return getattr(self.judge, "active", contextlib.nullcontext)()

    def estimate(self, images: int, size: tuple[int, int]) -> str:
        """What scoring would cost if no picture were judged before, in words."""
        return self.judge.estimate(images, size, self.rubric)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if the judge cannot be asked. Any prompt will do."""
        self.judge.check()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Details: the scores on their own scale by name, and "answer", what the model wrote.

        Raises:
            RewardError: a picture was refused, after all others were judged; or the judge failed.
        """
        questions = [self.rubric.text(prompt.text) for prompt in prompts]
        keys = [answer_key(*pair) for pair in zip(images, questions, strict=True)]
        refusals: dict[str, str] = {}
        # A picture may come twice in a batch; it is asked about once.
        todo = [i for i, key in enumerate(keys) if i == keys.index(key) and not self._known(key)]
        asked = [(images[i], questions[i]) for i in todo]
        try:
            # Closed at once, also after an error: then no call goes on behind our back.
            with contextlib.closing(self.judge.ask(asked, self.rubric, check_cancelled)) as answers:
                for place, answer in answers:
                    if isinstance(answer, Refused):
                        refusals[keys[todo[place]]] = str(answer)
                    else:
                        self._answers.put(keys[todo[place]], self._row(answer))
        except (InputError, RewardError):
            raise
        except RuntimeError as error:
            kept = f"{len(todo)} pictures were asked about; the answers that came are kept"
            raise RewardError(f"{self.name}: {error} ({kept})") from error
        return self._result(keys, prompts, refusals)

    def _known(self, key: str) -> bool:
        return self._answers.get(key) is not None

    def _row(self, answer: Answer) -> dict[str, Any]:
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
                        f"batch are kept; on_refusal = worst score goes on without it"
                    )
                values.append(0.0)
                details.append({"refused": refusals[key]})
                continue
            row = self._answers.get(key) or {}
            values.append(self.rubric.value(row["scores"]))
            details.append({**row["scores"], "answer": row.get("answer", "")})
        return RewardResult(np.array(values, dtype=np.float32), details)
