"""What a reward is: numbers for images, each with a reason, and a range that says what is best."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from ..data.prompts import Prompt
    from ..data.rollout import Rollout

log = logging.getLogger(__name__)


@dataclass
class RewardResult:
    """Scores of some images.

    Args:
        values: float32 ``[n]``, one for each image, finite.
        details: ``[n]`` small JSON-able dicts: what the reward saw, for the creator to read.
        left_out: bool ``[n]``, images that have no value and are not to be trained on, as a creator
            did not rate them; None is none of them. Only a ``RolloutReward`` leaves images out.
    """

    values: np.ndarray
    details: list[dict[str, Any]] = field(default_factory=list)
    left_out: np.ndarray | None = None


class RewardError(RuntimeError):
    """A reward could not score an image; the message says which image and why."""


@runtime_checkable
class Reward(Protocol):
    """Scores images against their prompts. Higher is better; ``range`` is (worst, best).

    ``name`` appears in file names and tables: lower case, letters, digits and ``-``.
    ``settings`` is what the scores depend on beside the image and the prompt, JSON-able: scores made
    with other settings are not mixed with these.
    """

    name: str
    range: tuple[float, float]
    settings: dict[str, Any]

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if this reward cannot judge one of the prompts, before any work."""
        ...

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score ``n`` RGB images against ``n`` prompts, the i-th image against the i-th prompt."""
        ...


@runtime_checkable
class RolloutReward(Reward, Protocol):
    """A reward that has to see a rollout as a whole: its scores depend on the other pictures, or were
    made elsewhere for these very pictures.

    ``score_rollout`` calls ``judge`` in place of ``check_prompts`` and ``score``, which such a reward
    has for pictures outside of a rollout: it refuses them where they have no meaning.
    """

    def judge(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Scores of all pictures, one group after the other. ``score(other)`` gives those of another
        reward as ``[groups, G]``, which are made where they are missing and kept.

        Raises:
            InputError: this rollout is not one that it can judge.
        """
        ...

    def check_new_pictures(self) -> None:
        """Raise ``InputError`` if it has nothing to say of pictures that are yet to be made."""
        ...


def active(reward: Reward) -> AbstractContextManager[Any]:
    """Within this context the networks of a reward stay on their device from one ``score`` to the next.

    A reward that has any offers ``active()``; it may be nested. Outside of it they rest on the CPU.
    """
    return getattr(reward, "active", contextlib.nullcontext)()


def announce(reward: Reward, images: int, size: tuple[int, int]) -> None:
    """Log what scoring this many pictures costs, before it begins, if the reward can say: one that
    does offers ``estimate(images, size)``."""
    if images and hasattr(reward, "estimate"):
        log.info("%s: %s", reward.name, reward.estimate(images, size))  # type: ignore[attr-defined]
