"""Rewards of other installed packages, offered by the entry point group ``gdro_comfy.rewards``.

An entry point names a class or a function that makes a reward of settings given by name. The reward has
``name``, ``range``, ``settings`` and ``score(images, prompts, check_cancelled)``, as ``base.py`` says, but
needs nothing of this pack: ``score`` may return plain numbers. ``check_prompts``, ``active`` and
``estimate`` are used where it has them. A package is imported when its reward is made, not before.
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

from ..errors import InputError
from .base import RewardError, RewardResult, active

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt

GROUP = "gdro_comfy.rewards"
_NEEDED = ("name", "range", "settings", "score")


@dataclass(frozen=True)
class Offer:
    """A reward that a package offers, as far as its metadata says."""

    name: str
    package: str
    version: str
    summary: str
    point: metadata.EntryPoint

    @property
    def id(self) -> str:
        return f"{self.name} ({self.package})"

    @property
    def label(self) -> str:
        """What the list shows; only the part before the colon counts."""
        return f"{self.id}: {self.summary}" if self.summary else self.id

    @property
    def origin(self) -> str:
        return f"{self.name} of the package {self.package} {self.version}"


def offers() -> list[Offer]:
    """All rewards of installed packages, by name. Imports none of them."""
    found: dict[str, Offer] = {}
    for point in metadata.entry_points(group=GROUP):
        package = point.dist
        if package is None or "Name" not in package.metadata:
            continue
        about = package.metadata
        summary = " ".join(about["Summary"].split()) if "Summary" in about else ""
        offer = Offer(point.name, about["Name"], package.version, summary, point)
        found.setdefault(offer.id, offer)
    return sorted(found.values(), key=lambda offer: offer.id)


def labels() -> list[str]:
    """What the node's list shows."""
    return [offer.label for offer in offers()]


def find(chosen: str) -> Offer:
    """The offer of this label, id, or name.

    Raises:
        InputError: there is none, or several packages offer that name.
    """
    there = offers()
    wanted = chosen.split(":")[0].strip()
    found = [offer for offer in there if wanted in (offer.id, offer.name)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(offer.id for offer in found or there)
    if found:
        raise InputError(
            "reward", f"several packages offer {wanted!r}", f"Choose one of: {listed}."
        )
    remedy = f"There are: {listed}." if there else "No installed package offers any."
    raise InputError(
        "reward",
        f"{wanted!r} is not among the installed rewards",
        f"{remedy} Install the package that has it into ComfyUI's Python, and restart.",
    )


def read_settings(text: str) -> dict[str, Any]:
    """Settings from a JSON object, or from lines ``name = value``. A value is read as JSON where it is
    JSON, else as text; lines that start with # are left out.

    >>> read_settings("strength = 2\\nword = red")
    {'strength': 2, 'word': 'red'}

    Raises:
        InputError: it is neither; names the line.
    """
    if text.lstrip().startswith("{"):
        try:
            found = json.loads(text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise InputError(
                "settings", f"they are not JSON ({error})", 'Write {"name": value, ...}.'
            ) from error
        return found
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not name.isidentifier() or name in found:
            wrong = "comes twice" if name in found else "is no setting"
            raise InputError(
                "settings", f"line {number}, {line.strip()!r}, {wrong}", "Write name = value."
            )
        try:
            found[name] = json.loads(value, parse_constant=_no_number)
        except (ValueError, RecursionError):
            found[name] = value
    return found


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number")


class InstalledReward:
    """A reward of an installed package behind the contract: what it gives is checked, and what goes
    wrong names the package.

    Args:
        reward: its label, id or name.
        settings: what it is made with.

    Raises:
        InputError: there is no such reward, it cannot be imported, refuses its settings, or lacks a part
            of the contract.
    """

    def __init__(self, reward: str, settings: Mapping[str, Any] | None = None) -> None:
        self._offer = find(reward)
        factory = _load(self._offer)
        self.description = (inspect.getdoc(factory) or self._offer.summary).split("\n")[0]
        self._inner = _make(self._offer, factory, dict(settings or {}))
        self.name: str = self._inner.name
        self.range = (float(self._inner.range[0]), float(self._inner.range[1]))
        self.settings: dict[str, Any] = {
            "package": self._offer.package,
            "version": self._offer.version,
            "reward": self._offer.name,
            "settings": dict(self._inner.settings),
        }
        if hasattr(self._inner, "estimate"):
            self.estimate = self._inner.estimate

    def about(self) -> str:
        """What it is, where it comes from, and what it is set to."""
        low, high = self.range
        held = self.settings["settings"]
        shown = ", ".join(f"{name} = {value!r}" for name, value in held.items())
        return (
            f"{self._offer.origin}: {self.description}\n"
            f"{self.name}, from {low:g} to {high:g}; settings: {shown or 'none'}"
        )

    def active(self) -> AbstractContextManager[Any]:
        return active(self._inner)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        if hasattr(self._inner, "check_prompts"):
            try:
                self._inner.check_prompts(prompts)
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
        stopped: list[BaseException] = []

        def check() -> None:
            try:
                check_cancelled()
            except BaseException as error:
                stopped.append(error)
                raise

        try:
            given = self._inner.score(images, prompts, check)
        except Exception as error:
            if error in stopped:
                raise
            raise RewardError(f"{self._offer.origin} failed: {_told(error)}") from error
        values = np.asarray(_numbers(self._offer, getattr(given, "values", given)), np.float32)
        details = list(getattr(given, "details", None) or [{}] * len(values))
        if values.shape != (len(images),) or len(details) != len(images):
            raise RewardError(
                f"{self._offer.origin} gave {values.size} values and {len(details)} details for "
                f"{len(images)} images"
            )
        return RewardResult(values, details)


def _numbers(offer: Offer, values: Any) -> list[float]:
    """Plain numbers of whatever a package returned: a list, an array, a tensor."""
    try:
        found = values.tolist() if hasattr(values, "tolist") else list(values)
        return [float(value) for value in found]
    except (TypeError, ValueError) as error:
        raise RewardError(
            f"{offer.origin} gave no list of numbers, but a {type(values).__name__} ({error})"
        ) from error


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _load(offer: Offer) -> Callable[..., Any]:
    try:
        factory = offer.point.load()
    except (Exception, SystemExit) as error:
        raise InputError(
            "reward",
            f"{offer.origin} cannot be imported ({_told(error)})",
            f"Repair or update that package: pip install --upgrade {offer.package}",
        ) from error
    if not callable(factory):
        raise _broken(
            offer, f"{offer.point.value} is a {type(factory).__name__}, no class or function"
        )
    return factory


def _make(offer: Offer, factory: Callable[..., Any], settings: dict[str, Any]) -> Any:
    _check_settings(offer, factory, settings)
    try:
        made = factory(**settings)
    except Exception as error:
        raise InputError(
            "settings",
            f"{offer.origin} refuses them ({_told(error)})",
            "Look at what its page says of its settings.",
        ) from error
    lacking = [part for part in _NEEDED if not hasattr(made, part)]
    if lacking:
        raise _broken(offer, f"the reward has no {', '.join(lacking)}")
    if not isinstance(made.name, str) or not re.fullmatch(r"[a-z0-9-]{1,40}", made.name):
        raise _broken(offer, f"its name {made.name!r} has more than small letters, digits and -")
    if not _is_range(made.range):
        raise _broken(offer, f"its range {made.range!r} is not (worst, best), two finite numbers")
    if not callable(made.score):
        raise _broken(offer, "its score cannot be called")
    try:
        json.dumps(dict(made.settings), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise _broken(offer, f"its settings cannot be written as JSON ({error})") from error
    return made


def _check_settings(offer: Offer, factory: Callable[..., Any], settings: dict[str, Any]) -> None:
    """Refuse settings that the reward does not have, and name those that it has."""
    try:
        known = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # made in C: it says itself what does not fit
        return
    by_name = [p for p in known if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    names = [p.name for p in by_name]
    has = f"It has: {', '.join(names) or 'none'}."
    for name in settings:
        if name not in names and not any(p.kind == p.VAR_KEYWORD for p in known):
            raise InputError("settings", f"{offer.origin} has no setting {name!r}", has)
    for p in by_name:
        if p.default is p.empty and p.name not in settings:
            raise InputError("settings", f"{offer.origin} needs {p.name!r}", has)


def _is_range(value: Any) -> bool:
    try:
        low, high = value
    except (TypeError, ValueError):
        return False
    real = all(isinstance(v, numbers.Real) and math.isfinite(v) for v in (low, high))
    return real and low < high


def _broken(offer: Offer, reason: str) -> InputError:
    return InputError(
        "reward",
        f"{offer.origin} is no reward: {reason}",
        "Tell the author of that package.",
    )
