"""Rewards by name. The module of a reward, and the libraries it needs, are imported when it is made."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from ..errors import InputError
from .base import Reward, RewardError, RewardResult

__all__ = ["Reward", "RewardError", "RewardResult", "create", "names"]

_REWARDS = {
    "composition": "CompositionReward",
    "installed": "InstalledReward",
    "ocr": "OCRReward",
    "pairwise": "PairwiseReward",
    "preference": "PreferenceReward",
    "quality": "QualityReward",
    "similarity": "SimilarityReward",
    "vlm": "VLMReward",
}
"""A reward's name, which is also its module's -> its class."""


def names() -> list[str]:
    """Return the names that ``create`` knows."""
    return sorted(_REWARDS)


def create(name: str, **settings: Any) -> Reward:
    """Make a reward, as in ``create("ocr", mode="line")``.

    Raises:
        InputError: there is no such reward, or it has no such setting.
    """
    if name not in _REWARDS:
        raise InputError(
            "reward", f"there is no reward {name!r}", f"Use one of {', '.join(names())}."
        )
    reward = getattr(importlib.import_module(f".{name}", __package__), _REWARDS[name])
    known = inspect.signature(reward).parameters
    for setting in settings:
        if setting not in known:
            raise InputError(
                "reward",
                f"{name} has no setting {setting!r}",
                f"It has {', '.join(known) or 'none'}.",
            )
    return reward(**settings)
