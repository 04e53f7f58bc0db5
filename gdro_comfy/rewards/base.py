"""The contract of rewards: a number for each image, with a reason, and a range that says what is best."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..errors import InputError

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt
    from ..data.rollout import Rollout

log = logging.getLogger(__name__)


@dataclass
class RewardResult:
    """The scores of some images.

    Args:
        values: float32 ``[n]``, one finite number for each image.
        details: ``[n]`` small JSON-able dicts that explain the scores to the creator; empty for none.
        left_out: bool ``[n]``, images without a value that are not trained on, such as those that a
            creator did not rate; None leaves out none. Only a ``RolloutReward`` leaves images out.
    """

    values: np.ndarray
    details: list[dict[str, Any]] = field(default_factory=list)
    left_out: np.ndarray | None = None


class RewardError(RuntimeError):
    """A reward could not score an image; the message says which image and why."""


@runtime_checkable
class Reward(Protocol):
    """Scores images against their prompts; higher is better.

    >>> class Brightness:
    ...     name, range, settings = "brightness", (0.0, 1.0), {}
    ...
    ...     def check_prompts(self, prompts):
    ...         pass
    ...
    ...     def score(self, images, prompts, check_cancelled=lambda: None):
    ...         return RewardResult(np.array([np.asarray(i).mean() / 255 for i in images], np.float32))
    >>> isinstance(Brightness(), Reward)
    True
    """

    name: str
    """Appears in file names and tables: lower-case letters, digits and ``-``."""
    range: tuple[float, float]
    """Worst and best value."""
    settings: dict[str, Any]
    """What the scores depend on apart from image and prompt, JSON-able. Scores made with other settings
    are stored apart."""

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if this reward cannot judge one of the prompts, before any work."""
        ...

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score ``n`` RGB images, the i-th image against the i-th of ``n`` prompts."""
        ...


@runtime_checkable
class RolloutReward(Reward, Protocol):
    """A reward for the images of a rollout as a whole.

    Its scores depend on the other images, or come from elsewhere for exactly these images. ``score_rollout``
    calls ``score_groups`` instead of ``check_prompts`` and ``score``, which are for images outside of a
    rollout and refuse those that the reward cannot judge.
    """

    def score_groups(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Score all images, group after group.

        Args:
            score: returns the scores ``[groups, G]`` of another reward, NaN where it left an image out.
                Missing ones are made and stored.

        Raises:
            InputError: the reward cannot judge this rollout.
        """
        ...

    def check_new_images(self) -> None:
        """Raise ``InputError`` if it cannot judge images that are yet to be made."""
        ...


_MOST_LEFT_OUT = 0.1
"""The part of a rollout's prompts that may be left out because a reward cannot judge them."""


def judged_prompts(reward: Reward, prompts: Sequence[Prompt]) -> list[bool]:
    """Return which prompts of a rollout a reward judges, and say how many it leaves out.

    A reward that offers ``check_prompt``, for a single prompt, leaves out those that it refuses, if they are
    at most a tenth: a set of a thousand may have one without a target. All others refuse the whole set.

    Raises:
        InputError: the reward cannot judge a prompt, or too many of them.
    """
    check = getattr(reward, "check_prompt", None)
    refused: dict[int, InputError] = {}
    if check is not None and len(prompts) * _MOST_LEFT_OUT >= 1:
        for index, prompt in enumerate(prompts):
            try:
                check(prompt)
            except InputError as error:
                refused[index] = error
                if len(refused) > len(prompts) * _MOST_LEFT_OUT:
                    refused = {}
                    break
    reward.check_prompts([p for index, p in enumerate(prompts) if index not in refused])
    if refused:
        first = next(iter(refused.values()))
        log.warning(
            "%s leaves out %d of %d prompts that it cannot judge; the first: %s",
            reward.name, len(refused), len(prompts), first.found,
        )  # fmt: skip
    return [index not in refused for index in range(len(prompts))]


def finite_values(name: str, result: RewardResult, descriptions: Sequence[str]) -> np.ndarray:
    """Return the values of a result as float32 ``[n]``; only images that are left out may have NaN.

    Args:
        name: of the reward, for the message.
        descriptions: ``[n]``, a description of each image for the message.

    Raises:
        RewardError: there are not ``n`` values, or one that is not left out is no finite number.
    """
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # becomes inf, which is refused
            values = np.asarray(result.values, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise RewardError(f"{name} returned values that are no numbers ({error})") from error
    if values.shape != (len(descriptions),):
        raise RewardError(f"{name} returned {values.shape} values for {len(descriptions)} images")
    broken = ~np.isfinite(values)
    if result.left_out is not None:
        broken &= ~result.left_out
    if broken.any():
        index = int(broken.argmax())
        raise RewardError(
            f"{name} gave {values[index]} for {descriptions[index]}: not a finite number, as a division "
            "by zero makes it"
        )
    return values


@contextlib.contextmanager
def naming_image(
    reward: Reward, index: int, prompt: Prompt, *errors: type[Exception]
) -> Iterator[None]:
    """Turn these errors into a ``RewardError`` that names the image; an ``InputError`` stays one."""
    try:
        yield
    except InputError:
        raise
    except errors as error:
        raise RewardError(
            f"{reward.name}: image {index} of {prompt.text!r} cannot be read: {error}"
        ) from error


def active(reward: Reward) -> AbstractContextManager[Any]:
    """Return a context in which a reward's networks stay on their device between calls of ``score``.

    A reward with networks offers it as ``active()``, which may be nested. Outside of it they are on the
    CPU.
    """
    return getattr(reward, "active", contextlib.nullcontext)()


def announce(reward: Reward, images: int, size: tuple[int, int]) -> None:
    """Log what scoring this many images costs, if the reward offers ``estimate(images, size)``."""
    if images and hasattr(reward, "estimate"):
        log.info("%s: %s", reward.name, reward.estimate(images, size))  # type: ignore[attr-defined]
