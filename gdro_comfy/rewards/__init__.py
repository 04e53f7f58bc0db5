"""Rewards by name. A reward's module, and the libraries it needs, are imported when it is made."""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import InputError
from .base import Reward, RewardError, RewardResult

__all__ = ["Reward", "RewardError", "RewardResult", "create", "names"]


def _composition() -> Any:
    from .composition import CompositionReward

    return CompositionReward


def _installed() -> Any:
    from .installed import InstalledReward

    return InstalledReward


def _ocr() -> Any:
    from .ocr import OCRReward

    return OCRReward


def _preference() -> Any:
    from .preference import PreferenceReward

    return PreferenceReward


def _vlm() -> Any:
    from .vlm import VLMReward

    return VLMReward


_REWARDS = {
    "composition": _composition,
    "installed": _installed,
    "ocr": _ocr,
    "preference": _preference,
    "vlm": _vlm,
}
"""A reward's name -> a function that imports its class."""


def names() -> list[str]:
    """The names that ``create`` knows."""
    return sorted(_REWARDS)


def create(name: str, **settings: Any) -> Reward:
    """Make a reward: ``create("ocr", mode="line")``.

    Raises:
        InputError: there is no such reward, or it has no such setting.
    """
    if name not in _REWARDS:
        raise InputError(
            "reward", f"there is no reward {name!r}", f"Use one of {', '.join(names())}."
        )
    reward = _REWARDS[name]()
    known = inspect.signature(reward).parameters
    for setting in settings:
        if setting not in known:
            raise InputError(
                "reward",
                f"{name} has no setting {setting!r}",
                f"It has {', '.join(known) or 'none'}.",
            )
    return reward(**settings)
