"""Numbers that were made elsewhere, for the images of one rollout and for no others."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ..data.files import digest
from ..data.numbers import finite_number
from ..errors import InputError
from .base import RewardResult

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt
    from ..data.rollout import Rollout
    from .base import Reward


def image_name(rollout: Rollout, index: int) -> str:
    """Describe an image of a rollout by its index over all groups: "picture 3 of 'a red circle'"."""
    group, index = divmod(index, rollout.images_per_prompt)
    return f"picture {index + 1} of {rollout.prompts[group].text!r}"


def read_numbers(rollout: Rollout, values: Sequence[Any], input_name: str = "scores") -> np.ndarray:
    """Return the numbers of all images of a rollout, group after group, as float32 ``[groups, G]``.

    Raises:
        InputError: there are more or fewer than images, or one is not a finite number; names the image.
    """
    groups, count = len(rollout.prompts), rollout.images_per_prompt
    if len(values) != groups * count:
        remedy = (
            f"The first without a number is {image_name(rollout, len(values))}. "
            if len(values) < groups * count
            else "The last ones belong to no picture. "
        )
        raise InputError(
            input_name,
            f"{len(values)} came for {groups * count} pictures "
            f"({groups} prompts with {count} each)",
            f"{remedy}Give one number for each picture of GDRO Rollout Images, in its order; a node in "
            "between that joins them into a batch, or leaves some out, breaks it.",
        )
    for index, value in enumerate(values):
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            shown = repr(value) if isinstance(value, (str, bool)) else f"a {type(value).__name__}"
            raise InputError(
                input_name,
                f"{image_name(rollout, index)} got {shown[:60]} where a number should be",
                "Connect FLOAT or INT. Text becomes a number in ComfyUI's Convert Number.",
            )
        if finite_number(value) is None:
            raise InputError(
                input_name,
                f"{image_name(rollout, index)} got {value}",
                "See what the nodes in between do with this picture (a division by zero, say), and "
                "give it a number.",
            )
    return np.array([float(v) for v in values], dtype=np.float32).reshape(groups, count)


class PrecomputedReward:
    """Scores from outside, bound to the images that they were made for.

    Args:
        name: for files and tables.
        rollout: the images.
        values: ``[groups, G]``, higher is better; NaN leaves an image out.
        source: where the scores came from, for messages.
        value_range: worst and best value; None takes them from ``values``.
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
            (group.folder.name, index): float(values[row, index])
            for row, group in enumerate(rollout.groups())
            for index in range(rollout.images_per_prompt)
        }
        self.range = value_range or (float(np.nanmin(values)), float(np.nanmax(values)))
        rows = [
            [group, index, None if math.isnan(value) else value]
            for (group, index), value in self._values.items()
        ]
        self.settings: dict[str, Any] = {"run": self._run.name, "numbers": digest(rows)}

    def score_groups(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Return the scores of this rollout or of a part of it.

        Raises:
            InputError: it is another rollout, or has images without a score.
        """
        if rollout.run.folder != self._run:
            raise InputError(
                "reward",
                f"its numbers are for the pictures of {self._run.name}, and these are of "
                f"{rollout.run.folder.name}",
                "Connect the rollout that the numbers were made for, or make numbers for this one: "
                f"{self._source}.",
            )
        keys = [
            (group.folder.name, index)
            for group in rollout.groups()
            for index in range(rollout.images_per_prompt)
        ]
        for index, key in enumerate(keys):
            if key not in self._values:
                raise InputError(
                    "reward",
                    f"it has no number for {image_name(rollout, index)}",
                    "The rollout has grown since. Take both from the same rollout node: "
                    f"{self._source}.",
                )
        values = np.array([self._values[key] for key in keys], dtype=np.float32)
        return RewardResult(values, left_out=np.isnan(values))

    def check_new_images(self) -> NoReturn:
        """Raise ``InputError``: it has scores for one rollout only."""
        raise InputError(
            "reward",
            f"{self.name} has numbers for the pictures of {self._run.name} only",
            f"It cannot judge pictures that are made later ({self._source}). Use it to score that "
            "rollout, and another reward for rounds, validation and evaluation.",
        )

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError``, as ``check_new_images`` does."""
        self.check_new_images()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Raise ``InputError``, as ``check_new_images`` does."""
        self.check_new_images()


class UnavailableReward:
    """Stands for a reward that could not be made, and says why as soon as it is used.

    Args:
        name: of the reward.
        reason, remedy: of the ``InputError``.
    """

    range = (0.0, 1.0)

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        self.name, self._reason, self._remedy = name, reason, remedy
        self.settings: dict[str, Any] = {}

    def check_new_images(self) -> NoReturn:
        """Raise ``InputError`` with the reason."""
        raise InputError("reward", self._reason, self._remedy)

    def score_groups(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Raise ``InputError`` with the reason."""
        self.check_new_images()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` with the reason."""
        self.check_new_images()

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Raise ``InputError`` with the reason."""
        self.check_new_images()
