"""Numbers that were made elsewhere, for the pictures of one rollout and for no others."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..data.files import digest
from ..errors import InputError
from .base import RewardResult

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt
    from ..data.rollout import Rollout
    from .base import Reward


def picture_name(rollout: Rollout, place: int) -> str:
    """The ``place``-th picture of a rollout in words: "picture 3 of 'a red circle'"."""
    group, number = divmod(place, rollout.images_per_prompt)
    return f"picture {number + 1} of {rollout.prompts[group].text!r}"


def read_numbers(rollout: Rollout, values: Sequence[Any], input_name: str = "scores") -> np.ndarray:
    """Numbers for all pictures of a rollout, group after group, as float32 ``[groups, G]``.

    Raises:
        InputError: there are more or fewer than pictures, or one is no finite number; names the
            picture.
    """
    groups, count = len(rollout.prompts), rollout.images_per_prompt
    if len(values) != groups * count:
        less = len(values) < groups * count
        remedy = (
            f"The first without a number is {picture_name(rollout, len(values))}. "
            if less
            else "The last ones belong to no picture. "
        )
        raise InputError(
            input_name,
            f"{len(values)} came for {groups * count} pictures "
            f"({groups} prompts with {count} each)",
            f"{remedy}Give one number for each picture of GDRO Rollout Images, in its order; a node in "
            "between that joins them into a batch, or leaves some out, breaks it.",
        )
    for place, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            shown = repr(value) if isinstance(value, (str, bool)) else f"a {type(value).__name__}"
            raise InputError(
                input_name,
                f"{picture_name(rollout, place)} got {shown[:60]} where a number should be",
                "Connect FLOAT or INT. Text becomes a number in ComfyUI's Convert Number.",
            )
        if not math.isfinite(value):
            raise InputError(
                input_name,
                f"{picture_name(rollout, place)} got {value}",
                "Look at what the nodes in between make of this picture (a division by zero, say), "
                "and give it a number.",
            )
    return np.array([float(v) for v in values], dtype=np.float32).reshape(groups, count)


class GivenReward:
    """Rewards that came from outside, bound to the pictures they were made for.

    Args:
        name: for files and tables.
        rollout: the pictures.
        values: ``[groups, G]``, higher is better; NaN leaves a picture out.
        source: where the numbers came from, for messages.
        value_range: worst and best value; None is those that are there.
    """

    def __init__(
        self,
        name: str,
        rollout: Rollout,
        values: np.ndarray,
        source: str,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.name, self._source = name, source
        self._run = rollout.run.folder
        self._values = {
            (group.folder.name, place): float(values[row, place])
            for row, group in enumerate(rollout.groups())
            for place in range(rollout.images_per_prompt)
        }
        self.range = value_range or (float(np.nanmin(values)), float(np.nanmax(values)))
        held = [
            [prompt, place, None if math.isnan(value) else value]
            for (prompt, place), value in self._values.items()
        ]
        self.settings: dict[str, Any] = {"run": self._run.name, "numbers": digest(held)}

    def judge(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """The numbers, of this rollout or of a part of it."""
        if rollout.run.folder != self._run:
            raise InputError(
                "reward",
                f"its numbers are for the pictures of {self._run.name}, and these are of "
                f"{rollout.run.folder.name}",
                f"Connect the rollout that the numbers were made for, or make numbers for this one: "
                f"{self._source}.",
            )
        keys = [
            (group.folder.name, place)
            for group in rollout.groups()
            for place in range(rollout.images_per_prompt)
        ]
        for place, key in enumerate(keys):
            if key not in self._values:
                raise InputError(
                    "reward",
                    f"it has no number for {picture_name(rollout, place)}",
                    "The rollout has grown since. Take both from the same rollout node: "
                    f"{self._source}.",
                )
        values = np.array([self._values[key] for key in keys], dtype=np.float32)
        return RewardResult(values, left_out=np.isnan(values))

    def check_new_pictures(self) -> NoReturn:
        raise InputError(
            "reward",
            f"{self.name} has numbers for the pictures of {self._run.name} only",
            f"It cannot judge pictures that are made later ({self._source}). Use it to score that "
            "rollout, and another reward for rounds, validation and evaluation.",
        )

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        self.check_new_pictures()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        self.check_new_pictures()


class NoNumbers:
    """In the place of a reward where there are no numbers to make one of: says why once it is used.

    Args:
        name: what the reward would be called.
        reason, remedy: of the ``InputError``.
    """

    range = (0.0, 1.0)

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name, self._reason, self._remedy = name, reason, remedy
        self.settings: dict[str, Any] = {}

    def check_new_pictures(self) -> NoReturn:
        raise InputError("reward", self._reason, self._remedy)

    def judge(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        self.check_new_pictures()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        self.check_new_pictures()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        self.check_new_pictures()
