"""Several rewards made into one: weighted, by a formula or by Pareto dominance, with or without a floor.

On a rollout each reward scores all images in turn, so that only one network is on the device at a time and
its scores are stored. Then they are combined over whole groups: nothing is normalised inside a batch.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.quotes import excerpt
from ..errors import InputError
from . import agreement
from .agreement import MIN_DEVIATION
from .base import Reward, RewardResult, RolloutReward, active, finite_values, judged_prompts
from .formula import Formula
from .ranking import above_floors, dominance, read_floors

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt
    from ..data.rollout import Rollout

NORMALISATIONS = ("none", "per group", "whole rollout")


def formula_names(rewards: Sequence[Reward]) -> list[str]:
    """Return a different name for each reward that a formula can use, such as vlm, ocr, vlm2."""
    names: list[str] = []
    for reward in rewards:
        name = re.sub(r"\W", "_", reward.name, flags=re.ASCII)
        candidates = (f"{name}{n or ''}" for n in itertools.chain([0], itertools.count(2)))
        names.append(next(name for name in candidates if name not in names))
    return names


def read_weights(text: str, names: Sequence[str]) -> list[float]:
    """Read weights from text such as "1, 0.5"; empty text is 1 for each of ``names``.

    Raises:
        InputError: one is not a finite number, there are more or fewer than rewards, or all are 0.
    """
    pieces = [piece for piece in re.split(r"[,;\s]+", text.strip()) if piece]
    weights: list[float] = []
    for piece in pieces:
        try:
            weights.append(float(piece))
        except ValueError:
            weights.append(math.nan)
        if not math.isfinite(weights[-1]):
            raise InputError("weights", f"{excerpt(piece)} is no number", "Write numbers: 1, 0.5")
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
    """Subtract the mean and divide by the standard deviation.

    Args:
        values: ``[groups, G]``; NaN stays NaN and does not count.
        how: one of ``NORMALISATIONS``.

    Returns:
        The same shape; 0 where values do not differ.
    """
    if how == "none":
        return values
    axis = 1 if how == "per group" else None
    known = np.ma.masked_invalid(values)
    mean, deviation = known.mean(axis, keepdims=True), known.std(axis, keepdims=True)
    differs = np.broadcast_to(np.ma.filled(deviation, 0.0) > MIN_DEVIATION, values.shape)
    scaled = (known - mean) / np.ma.maximum(deviation, MIN_DEVIATION)
    return np.where(np.isnan(values), np.nan, np.where(differs, np.ma.filled(scaled, 0.0), 0.0))


class CombinedReward:
    """Several rewards as one.

    Args:
        rewards: two or more.
        weights: one for each; the result is their weighted mean, divided by the sum of the weights' sizes.
        normalisation: of each reward before that, one of ``NORMALISATIONS``.
        formula: over ``formula_names(rewards)`` or reward0, reward1, ...; replaces weights.
        pareto: ranks the images of a group by ``ranking.dominance``; replaces weights and formula.
        floors: what ``ranking.read_floors`` reads; an image below one ranks behind all that reach them.

    >>> CombinedReward([create("ocr"), create("composition")], "2, 1").range  # doctest: +SKIP
    (0.0, 1.0)
    """

    name = "combined"

    def __init__(
        self,
        rewards: Sequence[Reward],
        weights: str = "",
        normalisation: str = "none",
        formula: str | None = None,
        pareto: bool = False,
        floors: str = "",
    ) -> None:
        if len(rewards) < 2:
            raise InputError(
                "rewards", f"{len(rewards)} is connected", "Connect two rewards or more."
            )
        self.rewards, self.names = list(rewards), formula_names(rewards)
        self.pareto = pareto
        self.normalisation = normalisation if formula is None and not pareto else "none"
        self._weights = np.array(read_weights(weights, self.names)) if formula is None else None
        known = dict.fromkeys([*self.names, *(f"reward{i}" for i in range(len(rewards)))])
        self._formula = None if formula is None else Formula(formula, list(known))
        self.settings: dict[str, Any] = {
            "rewards": [[reward.name, reward.settings] for reward in self.rewards],
            "normalisation": self.normalisation,
            "rule": None if self._weights is None else self._weights.tolist(),
            "formula": None if self._formula is None else self._formula.text,
        }
        self.floors = read_floors(floors, self.names, [reward.range for reward in self.rewards])
        # Only where they are used, so that scores of the versions before stay valid.
        if pareto:
            self.settings["rule"] = "pareto"
        if self.floors:
            self.settings["floors"] = {self.names[i]: floor for i, floor in self.floors.items()}
        self._unfloored_range = self._range()
        self.range = (0.0, 1.0) if self.floors else self._unfloored_range

    @property
    def relative(self) -> bool:
        """Whether an image's value depends on the others of its rollout."""
        return self.pareto or self.normalisation != "none"

    def _range(self) -> tuple[float, float]:
        """Return the range over the ends of the rewards' ranges; 3 deviations with normalisation."""
        if self.pareto:
            return (0.0, 1.0)
        if self.normalisation != "none":
            return (-3.0, 3.0)
        ends = [reward.range for reward in self.rewards]
        corners = itertools.product(*ends) if len(ends) <= 10 else zip(*ends, strict=True)
        values = [float(self._combine(np.array(corner, np.float64))) for corner in corners]
        finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
        return (min(finite), max(finite))

    def combine(self, values: np.ndarray) -> np.ndarray:
        """Combine scores ``[rewards, ...]`` to ``[...]``; ``[rewards, groups, G]`` if they are relative.

        A formula may divide by zero and give inf or NaN, which the caller has to refuse.
        """
        combined = self._combine(values)
        if not self.floors:
            return combined
        bounds = None if self.normalisation != "none" else self._unfloored_range
        ranges = [reward.range for reward in self.rewards]
        return above_floors(values, combined, self.floors, ranges, bounds)

    def _combine(self, values: np.ndarray) -> np.ndarray:
        """Combine scores as ``combine`` does, without floors."""
        if self.pareto:
            return dominance(values)
        if self._formula is not None:
            named = {f"reward{i}": part for i, part in enumerate(values)}
            named |= dict(zip(self.names, values, strict=True))
            return np.broadcast_to(self._formula(named), values.shape[1:])
        assert self._weights is not None
        parts = np.stack([normalise(part, self.normalisation) for part in values])
        return np.tensordot(self._weights, parts, 1) / np.abs(self._weights).sum()

    def score_groups(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> RewardResult:
        """Score a rollout; details are the score of each reward.

        An image that one of the rewards leaves out is left out.

        Raises:
            RewardError: an image has no finite score; names it.
        """
        parts = self.part_scores(rollout, score)
        return self._result(parts)

    def part_scores(self, rollout: Rollout, score: Callable[[Reward], np.ndarray]) -> np.ndarray:
        """Return the scores ``[rewards, groups, G]`` of each reward; NaN where it leaves an image out.

        Raises:
            RewardError: the rewards of an image have no finite combination; names the image.
        """
        for reward in self.rewards:
            if not isinstance(reward, RolloutReward):
                judged_prompts(reward, rollout.prompts)
        parts = np.stack([score(reward) for reward in self.rewards]).astype(np.float64)
        images = [
            f"{group.image_path(index).name} of the prompt {group.prompt.text!r}"
            for group in rollout.groups()
            for index in range(rollout.images_per_prompt)
        ]
        finite_values(self.name, self._result(parts), images)
        return parts

    def _result(self, parts: np.ndarray) -> RewardResult:
        """Combine scores ``[rewards, ...]``, one image after the other."""
        rows = parts.reshape(len(parts), -1).T
        details = [
            {
                name: round(float(value), 4)
                for name, value in zip(self.names, row, strict=True)
                if not math.isnan(value)
            }
            for row in rows
        ]
        with np.errstate(over="ignore"):  # becomes inf, which is refused
            values = self.combine(parts).reshape(-1).astype(np.float32)
        return RewardResult(values, details, np.isnan(rows).any(1))

    def check_new_images(self) -> None:
        """Raise ``InputError`` if one of the rewards cannot judge images that are yet to be made."""
        for reward in self.rewards:
            if isinstance(reward, RolloutReward):
                reward.check_new_images()

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` if it is relative, or if one of the rewards cannot judge a prompt."""
        if self.relative:
            how = "ranked (pareto)" if self.pareto else f"normalised ({self.normalisation})"
            raise InputError(
                "reward",
                f"{self.name} is {how}, so it compares the pictures of a "
                "rollout with each other only",
                "Use it to score rollouts. For validation and evaluation, combine with normalisation "
                "none or a formula, or connect a single reward.",
            )
        for reward in self.rewards:
            reward.check_prompts(prompts)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Keep the networks of all rewards on their device within this context."""
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
        """Score images outside of a rollout, which cannot be normalised; details as in ``score_groups``.

        Raises:
            RewardError: an image has no finite score, also of a single reward; names it.
        """
        self.check_prompts(prompts)
        names = [f"image {i} of {prompt.text!r}" for i, prompt in enumerate(prompts)]
        parts = np.stack(
            [
                finite_values(reward.name, reward.score(images, prompts, check_cancelled), names)
                for reward in self.rewards
            ]
        ).astype(np.float64)
        result = self._result(parts)
        finite_values(self.name, result, names)
        return result

    def explain(self, values: np.ndarray) -> str:
        """Describe how far the rewards agree inside a group, which decides, and which floors are reached.

        Args:
            values: ``[rewards, groups, G]``; images without all of the rewards (NaN) do not count.
        """
        left_out: np.ndarray = np.any(np.isnan(values), axis=0)
        combined = np.where(left_out, np.nan, self.combine(values))
        values = np.where(left_out, np.nan, values)
        lines = agreement.describe(self.names, values, combined)
        lines += agreement.describe_floors(self.names, values, self.floors)
        for name, other in self._twins():
            if self._formula is None or self.pareto:
                counts = "count once" if self.pareto else "count twice"
                lines.append(f"{name} and {other} are the same reward: together they {counts}.")
        return "\n".join(lines)

    def _twins(self) -> list[tuple[str, str]]:
        """Return the names of rewards that are the same, with the same settings."""
        keys = [[reward.name, reward.settings] for reward in self.rewards]
        return [
            (self.names[i], self.names[j])
            for i, j in itertools.combinations(range(len(keys)), 2)
            if keys[i] == keys[j]
        ]


def from_node(
    rewards: Mapping[str, Any], rule: Mapping[str, Any], floors: str = ""
) -> CombinedReward:
    """Make a combined reward of a node's inputs: reward0, reward1, ..., the choice of the rule, floors."""
    order = sorted(rewards, key=lambda key: int(re.sub(r"\D", "", key) or 0))
    connected = [rewards[key] for key in order if rewards[key] is not None]
    if rule["rule"] == "formula":
        return CombinedReward(connected, formula=rule["formula"], floors=floors)
    if rule["rule"] == "pareto":
        return CombinedReward(connected, pareto=True, floors=floors)
    return CombinedReward(connected, rule["weights"], rule["normalisation"], floors=floors)
