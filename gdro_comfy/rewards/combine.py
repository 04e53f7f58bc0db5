"""Several rewards made into one: weighted, with or without normalisation, or by a formula.

On a rollout each reward scores all pictures in turn, so that only one is on the device at a time and
its scores are kept; then they are combined over whole groups. Nothing is normalised inside a batch.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from .base import Reward, RewardResult, RolloutReward, active
from .formula import Formula

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt
    from ..data.rollout import Rollout

NORMALISATIONS = ("none", "per group", "whole rollout")
_STILL = 1e-6


def names_of(rewards: Sequence[Reward]) -> list[str]:
    """A different name for each reward, usable in a formula: ``vlm``, ``ocr``, ``vlm2``."""
    names: list[str] = []
    for reward in rewards:
        plain = re.sub(r"\W", "_", reward.name, flags=re.ASCII)
        taken = (f"{plain}{number or ''}" for number in itertools.chain([0], itertools.count(2)))
        names.append(next(name for name in taken if name not in names))
    return names


def read_weights(text: str, names: Sequence[str]) -> list[float]:
    """Weights from text such as "1, 0.5"; empty text is 1 for each.

    Raises:
        InputError: one is no number, there are more or fewer than rewards, or all are 0.
    """
    pieces = [piece for piece in re.split(r"[,;\s]+", text.strip()) if piece]
    weights: list[float] = []
    for piece in pieces:
        try:
            weights.append(float(piece))
        except ValueError:
            weights.append(math.nan)
        if not math.isfinite(weights[-1]):
            raise InputError("weights", f"{piece!r} is no number", "Write numbers: 1, 0.5")
    if weights and len(weights) != len(names):
        raise InputError(
            "weights",
            f"there are {len(weights)} for {len(names)} rewards",
            f"Write one for each of {', '.join(names)}, in this order; or none, for 1 each.",
        )
    if weights and not any(weights):
        raise InputError("weights", "all are 0", "Give at least one reward a weight.")
    return weights or [1.0] * len(names)


def normalise(values: np.ndarray, how: str) -> np.ndarray:
    """Rewards ``[groups, G]`` less their mean, by their deviation; 0 where they do not differ, and NaN
    where they are."""
    if how == "none":
        return values
    axis = 1 if how == "per group" else None
    known = np.ma.masked_invalid(values)
    mean, deviation = known.mean(axis, keepdims=True), known.std(axis, keepdims=True)
    differs = np.broadcast_to(np.ma.filled(deviation, 0.0) > _STILL, values.shape)
    scaled = (known - mean) / np.ma.maximum(deviation, _STILL)
    return np.where(np.isnan(values), np.nan, np.where(differs, np.ma.filled(scaled, 0.0), 0.0))


class CombinedReward:
    """Several rewards as one.

    Args:
        rewards: two or more.
        weights: one for each; the result is the weighted mean, by the sum of their sizes.
        normalisation: of each reward before that, one of ``NORMALISATIONS``.
        formula: over ``names_of(rewards)`` or reward0, reward1, ..., in place of weights.
    """

    name = "combined"

    def __init__(
        self,
        rewards: Sequence[Reward],
        weights: str = "",
        normalisation: str = "none",
        formula: str | None = None,
    ) -> None:
        if len(rewards) < 2:
            raise InputError(
                "rewards", f"{len(rewards)} is connected", "Connect two rewards or more."
            )
        self.rewards, self.names = list(rewards), names_of(rewards)
        self.normalisation = normalisation if formula is None else "none"
        self._weights = np.array(read_weights(weights, self.names)) if formula is None else None
        known = dict.fromkeys([*self.names, *(f"reward{i}" for i in range(len(rewards)))])
        self._formula = None if formula is None else Formula(formula, list(known))
        self.settings: dict[str, Any] = {
            "rewards": [[reward.name, reward.settings] for reward in self.rewards],
            "normalisation": self.normalisation,
            "rule": None if self._weights is None else self._weights.tolist(),
            "formula": None if self._formula is None else self._formula.text,
        }
        self.range = self._range()

    def _range(self) -> tuple[float, float]:
        """From the ends of the rewards' own ranges; 3 deviations where they are normalised."""
        if self.normalisation != "none":
            return (-3.0, 3.0)
        ends = [reward.range for reward in self.rewards]
        corners = itertools.product(*ends) if len(ends) <= 10 else zip(*ends, strict=True)
        found = [float(self.combine(np.array(corner, np.float64))) for corner in corners]
        finite = [value for value in found if math.isfinite(value)] or [0.0, 1.0]
        return (min(finite), max(finite))

    def combine(self, values: np.ndarray) -> np.ndarray:
        """``[rewards, ...]`` to ``[...]``; with normalisation ``[rewards, groups, G]``."""
        if self._formula is not None:
            named = {f"reward{i}": part for i, part in enumerate(values)}
            named |= dict(zip(self.names, values, strict=True))
            return np.broadcast_to(self._formula(named), values.shape[1:])
        assert self._weights is not None
        parts = np.stack([normalise(part, self.normalisation) for part in values])
        return np.tensordot(self._weights, parts, 1) / np.abs(self._weights).sum()

    def judge(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Details: the score of each reward. What one of them leaves out is left out."""
        values = self.parts(rollout, score)
        rows = values.reshape(len(values), -1).T
        details = [
            {
                name: round(float(v), 4)
                for name, v in zip(self.names, row, strict=True)
                if not math.isnan(v)
            }
            for row in rows
        ]
        combined = self.combine(values).reshape(-1).astype(np.float32)
        return RewardResult(combined, details, np.isnan(rows).any(1))

    def parts(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> np.ndarray:
        """Scores ``[rewards, groups, G]`` of each reward by itself; NaN where it leaves one out."""
        for reward in self.rewards:
            if not isinstance(reward, RolloutReward):
                reward.check_prompts(rollout.prompts)
        return np.stack([score(reward) for reward in self.rewards]).astype(np.float64)

    def check_new_pictures(self) -> None:
        for reward in self.rewards:
            if isinstance(reward, RolloutReward):
                reward.check_new_pictures()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        if self.normalisation != "none":
            raise InputError(
                "reward",
                f"{self.name} is normalised ({self.normalisation}), so it compares the pictures of a "
                "rollout with each other only",
                "Use it to score rollouts. For validation and evaluation, combine with normalisation "
                "none or a formula, or connect a single reward.",
            )
        for reward in self.rewards:
            reward.check_prompts(prompts)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for reward in self.rewards:
                stack.enter_context(active(reward))
            yield

    def score(
        self,
        images: Sequence[Image.Image],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Pictures by themselves, without normalisation."""
        self.check_prompts(prompts)
        values = [reward.score(images, prompts, check_cancelled).values for reward in self.rewards]
        return RewardResult(self.combine(np.stack(values).astype(np.float64)).astype(np.float32))

    def explain(self, values: np.ndarray) -> str:
        """In words, for scores ``[rewards, groups, G]``: how far the rewards agree inside a group,
        and which of them decides the ranking. Counts pictures that have all the rewards."""
        without: np.ndarray = np.any(np.isnan(values), axis=0)
        some = ~np.all(without, axis=1)
        combined = np.where(without, np.nan, self.combine(values))[some]
        values = np.where(without, np.nan, values)[:, some]
        lines = ["How far they agree inside a group (1: the same order, -1: the opposite):"]
        for i, j in itertools.combinations(range(len(values)), 2):
            found = correlation(values[i], values[j])
            lines.append(f"  {self.names[i]} and {self.names[j]}: {_shown(found)}")
        lines.append("With the combined reward:")
        told = [correlation(part, combined) for part in values]
        best = np.where(np.isnan(combined), -np.inf, combined).argmax(1)[:, None]
        for name, part, found in zip(self.names, values, told, strict=True):
            most = np.nanmax(part, 1) - _STILL
            agreed = int((np.take_along_axis(part, best, 1)[:, 0] >= most).sum())
            lines.append(
                f"  {name}: {_shown(found)}; the same best in {agreed} of {len(best)} groups"
            )
        known = {name: r for name, r in zip(self.names, told, strict=True) if r is not None}
        if not known:
            lines.append("No reward differs inside a group: there is nothing to learn.")
        else:
            lines.append(f"{max(known, key=lambda name: known[name])} decides the ranking most.")
        return "\n".join(lines)


def correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    """Pearson's r of the differences inside groups ``[groups, G]``; None where one has none. NaN, the
    same in both, does not count."""
    one, other = (np.nan_to_num(v - np.nanmean(v, 1, keepdims=True)) for v in (one, other))
    size = math.sqrt(float((one**2).sum()) * float((other**2).sum()))
    return float((one * other).sum()) / size if size > _STILL**2 else None


def _shown(found: float | None) -> str:
    return "no difference inside a group" if found is None else f"{found:+.2f}"


def from_node(rewards: Mapping[str, Any], rule: Mapping[str, Any]) -> CombinedReward:
    """Of what the node was given: reward0, reward1, ... and the choice of the rule."""
    order = sorted(rewards, key=lambda key: int(re.sub(r"\D", "", key) or 0))
    connected = [rewards[key] for key in order if rewards[key] is not None]
    if rule["rule"] == "formula":
        return CombinedReward(connected, formula=rule["formula"])
    return CombinedReward(connected, rule["weights"], rule["normalisation"])
