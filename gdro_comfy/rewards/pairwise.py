"""The pairwise judge: a vision-language model compares the images of a group two by two.

A judge's points drift, and pictures of one group often get the same. Which of two is better is asked more
reliably (Pref-GRPO, arXiv 2508.20751): the reward is the share of its comparisons that an image wins. Every
verdict is stored as it comes, and none is asked for twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..data.files import digest
from ..errors import InputError
from .answer_cache import AnswerCache, answer_key
from .base import Reward, RewardError, RewardResult
from .pair_rubric import FIRST, SECOND, TIE, PairRubric
from .rubric import Refusal
from .tournament import schedule, win_rates

if TYPE_CHECKING:
    from PIL import Image

    from ..data.groups import Group
    from ..data.rollout import Rollout

log = logging.getLogger(__name__)

ORDERS = ("balanced", "both")
ON_REFUSAL = ("leave out", "stop")
_MOST_UNANSWERED = 0.5  # of a rollout's questions; with more, the rest is no ranking
_BIASED = (
    0.75  # of the decisive verdicts for one place, or of all verdicts for a tie: the log warns
)
_ENOUGH = 20  # verdicts to speak of a bias
_POINTS = {FIRST: 1.0, TIE: 0.5, SECOND: 0.0}


@dataclass
class _Question:
    """One question: which images of a group, in which order, and the pair that it belongs to."""

    group: Group
    images: tuple[int, int]
    pair: int
    swapped: bool


@dataclass
class _Count:
    """How often each verdict was given, in the order in which the judge saw the images."""

    first: int = 0
    second: int = 0
    tie: int = 0
    unanswered: int = 0

    def add(self, verdict: str | None) -> None:
        name = verdict or "unanswered"
        setattr(self, name, getattr(self, name) + 1)

    @property
    def verdicts(self) -> int:
        return self.first + self.second + self.tie


class PairwiseReward:
    """The share of its comparisons that an image wins, ties counting half: 0 to 1.

    Args:
        rubric: what is asked about two images.
        judge: who answers; see ``vlm.Judge``. It gets two images instead of one.
        opponents: of each image. All others are met if there are not more than that; otherwise a seeded
            selection.
        orders: "balanced" asks once for each pair, each image first as often as second; "both" asks in both
            orders, and a pair in which the verdicts contradict each other is a tie.
        on_refusal: for a pair without a verdict: "leave out" counts it for neither image, "stop" ends the
            scoring and names it.
        folder: where verdicts are stored; None keeps them in memory.
        check_cancelled: raises if the user has asked to stop.
    """

    name, range = "pairwise", (0.0, 1.0)

    def __init__(
        self,
        rubric: PairRubric,
        judge: Any,
        opponents: int = 7,
        orders: str = ORDERS[0],
        on_refusal: str = ON_REFUSAL[0],
        folder: Path | None = None,
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> None:
        for name, value, known in (
            ("orders", orders, ORDERS),
            ("on_refusal", on_refusal, ON_REFUSAL),
        ):
            if value not in known:
                raise InputError(name, f"{value!r} is unknown", f"Use one of {', '.join(known)}.")
        if opponents < 1:
            raise InputError("opponents", f"{opponents} is none", "Use 1 or more.")
        self.rubric, self.judge = rubric, judge
        self.opponents, self.orders, self.on_refusal = opponents, orders, on_refusal
        self._check_cancelled = check_cancelled
        identity = {"instructions": rubric.instructions, "judge": judge.identity}
        self.settings: dict[str, Any] = {
            **identity, "opponents": opponents, "orders": orders, "on_refusal": on_refusal,
        }  # fmt: skip
        file = None if folder is None else folder / f"pairs-{digest(identity)}.jsonl"
        self._answers = AnswerCache(file)

    def calls(self, count: int) -> int:
        """Return how many questions a group of this many images takes."""
        return len(schedule(count, self.opponents, "")) * (2 if self.orders == "both" else 1)

    def estimate(self, groups: int, count: int, size: tuple[int, int]) -> str:
        """Describe what scoring costs if no pair was judged before."""
        calls = self.calls(count)
        text = self.judge.estimate(groups * calls, size, self.rubric)
        return (
            f"{groups:,} groups of {count} take {calls} comparisons each, of two pictures: {text}"
        )

    def active(self) -> AbstractContextManager[Any]:
        """Keep a local model on its device within this context."""
        return getattr(self.judge, "active", contextlib.nullcontext)()

    def check_new_images(self) -> None:
        """Raise ``InputError`` if the judge cannot be asked; images of later groups are no problem."""
        self.judge.check()

    def check_prompts(self, prompts: Sequence[Any]) -> NoReturn:
        """Raise ``InputError``: it compares the images of a group and says nothing about one alone."""
        raise InputError(
            "reward",
            f"{self.name} compares the pictures of a group with each other, so the mean of a group is "
            "always 0.5",
            "Use it to score rollouts. For validation and evaluation, use GDRO VLM Reward or another "
            "reward.",
        )

    def score(self, *args: Any, **settings: Any) -> RewardResult:
        """Raise ``InputError``, as ``check_prompts`` does."""
        self.check_prompts(())

    def score_groups(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Score all images; details are the number of "wins", "ties" and "losses".

        Raises:
            InputError: the judge cannot be asked.
            RewardError: it failed, gave no verdict on a pair that must have one, or on most pairs.
        """
        self.judge.check()
        count = rollout.images_per_prompt
        log.info(
            "%s: %s", self.name,
            self.estimate(len(rollout.prompts), count, rollout.run.settings.size),
        )  # fmt: skip
        values, details, seen = [], [], _Count()
        with self.active():
            for group in rollout.groups():
                self._check_cancelled()
                pairs = schedule(count, self.opponents, group.folder.name)
                points = self._points(group, pairs, seen)
                rates, _ = win_rates(count, pairs, points)
                values.append(rates)
                details += _details(count, pairs, points)
        self._report(seen)
        return RewardResult(np.concatenate(values).astype(np.float32), details)

    def _points(
        self, group: Group, pairs: Sequence[tuple[int, int]], seen: _Count
    ) -> list[float | None]:
        """Return the points of the first image of each pair, None without a verdict."""
        questions = [_Question(group, pair, i, False) for i, pair in enumerate(pairs)]
        if self.orders == "both":
            questions += [_Question(group, (b, a), i, True) for i, (a, b) in enumerate(pairs)]
        given: list[list[float]] = [[] for _ in pairs]
        for question, verdict in zip(questions, self._ask(questions), strict=True):
            seen.add(verdict)
            if verdict is not None:
                points = _POINTS[verdict]
                given[question.pair].append(1 - points if question.swapped else points)
        needed = 2 if self.orders == "both" else 1
        # Half a pair would bring back the bias of the order.
        return [float(np.mean(one)) if len(one) == needed else None for one in given]

    def _ask(self, questions: Sequence[_Question]) -> list[str | None]:
        """Return the verdict on each question, from the store or from the judge."""
        group = questions[0].group
        text = self.rubric.question(group.prompt.text)
        images = {i: group.image(i) for pair in questions for i in pair.images}
        keys = [_pair_key(images[q.images[0]], images[q.images[1]], text) for q in questions]
        missing = [i for i, key in enumerate(keys) if self._answers.get(key) is None]
        asked = [((images[a], images[b]), text) for a, b in (questions[i].images for i in missing)]
        refusals: dict[str, str] = {}
        try:
            with contextlib.closing(
                self.judge.ask(asked, self.rubric, self._check_cancelled)
            ) as answers:
                for index, answer in answers:
                    key = keys[missing[index]]
                    if isinstance(answer, Refusal):
                        refusals[key] = str(answer)
                    else:
                        row = {"verdict": self.rubric.read(answer), "answer": answer.text[:500]}
                        self._answers.put(key, row)
        except (InputError, RewardError):
            raise
        except RuntimeError as error:
            raise RewardError(f"{self.name}: {error} (the verdicts that came are kept)") from error
        if refusals and self.on_refusal == "stop":
            index = next(i for i, key in enumerate(keys) if key in refusals)
            first, second = questions[index].images
            raise RewardError(
                f"{self.name}: images {first} and {second} of {group.prompt.text!r} were not compared: "
                f"{refusals[keys[index]]}. With on_refusal = leave out, the pair counts for neither"
            )
        rows = [self._answers.get(key) for key in keys]
        return [None if row is None else row["verdict"] for row in rows]

    def _report(self, seen: _Count) -> None:
        """Log what the verdicts say about the judge.

        Raises:
            RewardError: it gave none on most pairs.
        """
        total = seen.verdicts + seen.unanswered
        if seen.unanswered > _MOST_UNANSWERED * total:
            raise RewardError(
                f"{self.name}: the judge gave no verdict on {seen.unanswered} of {total} pairs, which leaves "
                "no ranking. The verdicts that came are kept. Ask more plainly, or choose another model"
            )
        if seen.unanswered:
            log.warning("%s: no verdict on %d of %d pairs", self.name, seen.unanswered, total)
        decisive = seen.first + seen.second
        if decisive >= _ENOUGH and max(seen.first, seen.second) > _BIASED * decisive:
            place = "first" if seen.first > seen.second else "second"
            log.warning(
                "%s: the judge chose the %s picture in %d of %d decisions, wherever the better one was; use "
                "%s",
                self.name, place, max(seen.first, seen.second), decisive,
                "another model" if self.orders == "both" else "orders = both, or another model",
            )  # fmt: skip
        if seen.verdicts >= _ENOUGH and seen.tie > _BIASED * seen.verdicts:
            log.warning(
                "%s: the judge called %d of %d pairs a tie, from which nothing is learned",
                self.name, seen.tie, seen.verdicts,
            )  # fmt: skip


def _pair_key(first: Image.Image, second: Image.Image, text: str) -> str:
    """Return a name for this question about these images in this order."""
    return digest([answer_key(first, text), answer_key(second, text)], 32)


def _details(
    count: int, pairs: Sequence[tuple[int, int]], points: Sequence[float | None]
) -> list[dict[str, Any]]:
    rows = [{"wins": 0, "ties": 0, "losses": 0} for _ in range(count)]
    for (first, second), point in zip(pairs, points, strict=True):
        if point is None:
            continue
        for image, own in ((first, point), (second, 1 - point)):
            rows[image]["ties" if own == 0.5 else "wins" if own > 0.5 else "losses"] += 1
    return [dict(row) for row in rows]
