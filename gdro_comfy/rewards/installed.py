"""Rewards of other installed packages, found by the entry point group ``gdro_comfy.rewards``.

An entry point names a class, or a function, that makes a reward of settings given by name. The reward has
``name``, ``range``, ``settings`` and ``score(images, prompts, check_cancelled)``, as in ``base.py``, but
needs nothing of this pack: ``score`` may return plain numbers. It may also have ``check_prompts``,
``active`` and ``estimate``. A package is imported when its reward is made, not before.
"""

from __future__ import annotations

import inspect
import json
import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.quotes import excerpt
from ..errors import InputError
from .base import RewardError, RewardResult, active, finite_values

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt

GROUP = "gdro_comfy.rewards"
_NEEDED = ("name", "range", "settings", "score")


@dataclass(frozen=True)
class Offer:
    """A reward that a package offers, as its metadata describes it."""

    name: str
    package: str
    version: str
    summary: str
    entry_point: metadata.EntryPoint

    @property
    def id(self) -> str:
        """The name and the package, which together are unique."""
        return f"{self.name} ({self.package})"

    @property
    def label(self) -> str:
        """What the list shows; only the part before the colon identifies the reward."""
        return f"{self.id}: {self.summary}" if self.summary else self.id

    @property
    def origin(self) -> str:
        """The reward and where it comes from, for messages."""
        return f"{self.name} of the package {self.package} {self.version}"


def offers() -> list[Offer]:
    """Return the rewards of installed packages, sorted by name, without importing any."""
    by_id: dict[str, Offer] = {}
    for entry_point in metadata.entry_points(group=GROUP):
        package = entry_point.dist
        if package is None or "Name" not in package.metadata:
            continue
        fields = package.metadata
        summary = " ".join(fields["Summary"].split()) if "Summary" in fields else ""
        offer = Offer(entry_point.name, fields["Name"], package.version, summary, entry_point)
        by_id.setdefault(offer.id, offer)
    return sorted(by_id.values(), key=lambda offer: offer.id)


def labels() -> list[str]:
    """Return what the node's list shows."""
    return [offer.label for offer in offers()]


def find(chosen: str) -> Offer:
    """Return the offer with this label, id, or name.

    Raises:
        InputError: there is none, or several packages offer that name.
    """
    available = offers()
    name = chosen.split(":")[0].strip()
    matches = [offer for offer in available if name in (offer.id, offer.name)]
    if len(matches) == 1:
        return matches[0]
    listed = ", ".join(offer.id for offer in matches or available)
    if matches:
        raise InputError("reward", f"several packages offer {name!r}", f"Choose one of: {listed}.")
    remedy = f"There are: {listed}." if available else "No installed package offers any."
    raise InputError(
        "reward",
        f"{name!r} is not among the installed rewards",
        f"{remedy} Install the package that has it into ComfyUI's Python, and restart.",
    )


def read_settings(text: str) -> dict[str, Any]:
    """Read settings from a JSON object, or from lines ``name = value``.

    A value in a line is JSON if it can be read as such, else text. Lines that start with # are left out.

    >>> read_settings("strength = 2\\nword = red")
    {'strength': 2, 'word': 'red'}

    Raises:
        InputError: it is neither; names the line.
    """
    if text.lstrip().startswith("{"):
        try:
            return json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise InputError(
                "settings", f"they are not JSON ({error})", 'Write {"name": value, ...}.'
            ) from error
    settings = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name.isidentifier() or name in settings:
            reason = "comes twice" if name in settings else "is no setting"
            raise InputError(
                "settings",
                f"line {number}, {excerpt(line.strip())}, {reason}",
                "Write name = value.",
            )
        try:
            settings[name] = json.loads(value, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            settings[name] = value
    return settings


def _refuse_constant(word: str) -> float:
    """Refuse NaN and Infinity, which Python would read although JSON has no such numbers."""
    raise ValueError(f"{word} is no number")


class InstalledReward:
    """A reward of an installed package: what it returns is checked, and errors name the package.

    Args:
        reward: its label, id or name.
        settings: what it is made with.

    >>> InstalledReward("warmth", {"wanted": "cold"}).settings["package"]  # doctest: +SKIP
    'gdro-reward-warmth'

    Raises:
        InputError: there is no such reward, it cannot be imported, refuses its settings, or lacks a part
            of the contract.
    """

    def __init__(self, reward: str, settings: Mapping[str, Any] | None = None) -> None:
        self._offer = find(reward)
        factory = _load(self._offer)
        self.description = (inspect.getdoc(factory) or self._offer.summary).split("\n")[0]
        self._reward = _make(self._offer, factory, dict(settings or {}))
        self.name: str = self._reward.name
        self.range = (float(self._reward.range[0]), float(self._reward.range[1]))
        self.settings: dict[str, Any] = {
            "package": self._offer.package,
            "version": self._offer.version,
            "reward": self._offer.name,
            "settings": dict(self._reward.settings),
        }
        if hasattr(self._reward, "estimate"):
            self.estimate = self._reward.estimate

    def about(self) -> str:
        """Describe the reward, its package, its range and its settings."""
        low, high = self.range
        pairs = self.settings["settings"].items()
        settings = ", ".join(f"{name} = {value!r}" for name, value in pairs)
        return (
            f"{self._offer.origin}: {self.description}\n"
            f"{self.name}, from {low:g} to {high:g}; settings: {settings or 'none'}"
        )

    def active(self) -> AbstractContextManager[Any]:
        """Keep the reward's networks on their device within this context."""
        return active(self._reward)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if the reward refuses a prompt."""
        if hasattr(self._reward, "check_prompts"):
            try:
                self._reward.check_prompts(prompts)
            except ValueError as error:
                raise InputError(
                    "prompts", f"{self._offer.origin} refuses them: {error}", "Use other prompts."
                ) from error

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Score images; details are the reward's own.

        Raises:
            RewardError: the reward failed, or did not return a finite number for each image.
        """
        cancellations: list[BaseException] = []

        def check() -> None:
            try:
                check_cancelled()
            except BaseException as error:
                cancellations.append(error)
                raise

        origin = self._offer.origin
        try:
            output = self._reward.score(images, prompts, check)
        except Exception as error:
            if error in cancellations:
                raise
            raise RewardError(f"{origin} failed: {_describe(error)}") from error
        with np.errstate(over="ignore"):  # becomes inf, which is refused
            values = np.asarray(_numbers(origin, getattr(output, "values", output)), np.float32)
        details = list(getattr(output, "details", None) or [{}] * len(values))
        if values.shape != (len(images),) or len(details) != len(images):
            raise RewardError(
                f"{origin} gave {values.size} values and {len(details)} details for "
                f"{len(images)} images"
            )
        result = RewardResult(values, details)
        finite_values(origin, result, [f"image {i} of {p.text!r}" for i, p in enumerate(prompts)])
        return result


def _numbers(origin: str, values: Any) -> list[float]:
    """Return plain numbers of what a package returned: a list, an array or a tensor."""
    try:
        items = values.tolist() if hasattr(values, "tolist") else list(values)
        return [float(item) for item in items]
    except (TypeError, ValueError, OverflowError) as error:
        raise RewardError(
            f"{origin} gave no list of numbers, but a {type(values).__name__} ({error})"
        ) from error


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _load(offer: Offer) -> Callable[..., Any]:
    """Import what makes the reward."""
    try:
        factory = offer.entry_point.load()
    except (Exception, SystemExit) as error:
        raise InputError(
            "reward",
            f"{offer.origin} cannot be imported ({_describe(error)})",
            f"Repair or update that package: pip install --upgrade {offer.package}",
        ) from error
    if not callable(factory):
        kind = type(factory).__name__
        raise _broken(offer, f"{offer.entry_point.value} is a {kind}, no class or function")
    return factory


def _make(offer: Offer, factory: Callable[..., Any], settings: dict[str, Any]) -> Any:
    """Make the reward and check that it has all parts of the contract."""
    _check_settings(offer, factory, settings)
    try:
        reward = factory(**settings)
    except Exception as error:
        raise InputError(
            "settings",
            f"{offer.origin} refuses them ({_describe(error)})",
            "Look at what its page says of its settings.",
        ) from error
    missing = [part for part in _NEEDED if not hasattr(reward, part)]
    if missing:
        raise _broken(offer, f"the reward has no {', '.join(missing)}")
    if not isinstance(reward.name, str) or not re.fullmatch(r"[a-z0-9-]{1,40}", reward.name):
        raise _broken(offer, f"its name {reward.name!r} has more than small letters, digits and -")
    if not _is_range(reward.range):
        raise _broken(offer, f"its range {reward.range!r} is not (worst, best), two finite numbers")
    if not callable(reward.score):
        raise _broken(offer, "its score cannot be called")
    try:
        json.dumps(dict(reward.settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _broken(offer, f"its settings cannot be written as JSON ({error})") from error
    return reward


def _check_settings(offer: Offer, factory: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Raise ``InputError`` for settings that the reward does not have, or needs; names those it has."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # written in C: it will say itself what does not fit
        return
    named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in named]
    known = f"It has: {', '.join(names) or 'none'}."
    for name in settings:
        if name not in names and not any(p.kind == p.VAR_KEYWORD for p in parameters):
            raise InputError("settings", f"{offer.origin} has no setting {name!r}", known)
    for p in named:
        if p.default is p.empty and p.name not in settings:
            raise InputError("settings", f"{offer.origin} needs {p.name!r}", known)


def _is_range(value: Any) -> bool:
    try:
        low, high = value
    except (TypeError, ValueError):
        return False
    finite = all(isinstance(v, numbers.Real) and math.isfinite(v) for v in (low, high))
    return finite and low < high


def _broken(offer: Offer, reason: str) -> InputError:
    return InputError(
        "reward",
        f"{offer.origin} is not a reward: {reason}",
        "Tell the author of that package.",
    )
