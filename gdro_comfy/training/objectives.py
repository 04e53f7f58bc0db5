"""The training objectives: a data class of settings, and the loss of some groups.

An objective says what it has to see (``Signals``) and turns it into one number; the loop in
``trainer.py`` is the same for all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from ..models.flow import implicit_reward
from .losses import GroupStats, dgpo_loss, dpo_loss, gdro_loss, group_advantages, group_stats


class Signals(NamedTuple):
    """What the loop measures on some groups, each ``[groups, k]``.

    ``errors`` are the velocity errors of the model in training and ``drift`` its mean squared
    difference from the reference's velocity (NaN where the bank had the reference's errors): both carry
    gradients. ``reference`` and ``old`` are the errors of the base and of the older policy (None unless
    the objective uses it); ``beta_scale`` ``[groups, 1]`` is what an automatic beta is multiplied by.
    """

    errors: Tensor
    reference: Tensor
    drift: Tensor
    old: Tensor | None = None
    beta_scale: Tensor | None = None


class ObjectiveResult(NamedTuple):
    """``loss`` to minimise, and detached scalars for the history."""

    loss: Tensor
    stats: GroupStats
    group_loss: Tensor
    extra: dict[str, Tensor]


class Objective(ABC):
    """What the training loop asks of an algorithm: a data class of settings with a loss.

    The values here hold for one that does not say otherwise, as a setting or for good.
    """

    group_size: int = 0
    """Images of a prompt that train together; 0 is all of them."""
    draw: str = "random"
    """How they are chosen, one of ``groups.DRAWS``."""
    sigma_min: float = 0.0
    """Lowest noise level at which it trains."""
    auto_beta: bool = False
    """Whether its beta is scaled by ``beta_control``."""

    @property
    def uses_old(self) -> bool:
        """Whether it looks at an older policy."""
        return False

    @property
    def uses_drift(self) -> bool:
        """Whether its loss looks at the difference from the reference's velocity."""
        return False

    def targets(self, rewards: Tensor) -> Tensor:
        """What ``loss`` is given of the rewards ``[groups, k]`` of a whole batch, in the same order
        inside each group."""
        return rewards

    @abstractmethod
    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        """The mean over groups; ``targets`` are ``[groups, k]``."""


@dataclass(frozen=True)
class GDRO(Objective):
    """Group-level direct reward optimisation (arXiv 2601.02036).

    Args:
        group_size: k, images of a prompt that train together. 2 is unstable, 6 was best in the paper.
        beta: how hard the model may move away from its base. Low learns fast and then fools the
            reward; high learns little. The paper: 12 for text, 6 for composition.
        temperature: tau, in units of reward: differences well below it hardly count. The paper: 0.05.
        top1_weight: gamma, holds the model to the best image of each group. The paper: 0.5 to 1.
        draw: which k of a prompt's images train together, "random" or "best and worst".
        auto_beta: let ``beta_control`` scale beta by noise level. Not of the paper.
    """

    group_size: int = 6
    beta: float = 12.0
    temperature: float = 0.05
    top1_weight: float = 0.5
    draw: str = "random"
    auto_beta: bool = False

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        scores = implicit_reward(signals.errors, signals.reference, self.beta)
        extra = {}
        if signals.beta_scale is not None:
            scores = scores * signals.beta_scale
            extra["beta"] = self.beta * signals.beta_scale.mean()
        group_loss, stats = gdro_loss(scores, targets, self.temperature)
        top = top1_error(signals.errors, targets)
        loss = group_loss + self.top1_weight * top
        return ObjectiveResult(loss, stats, group_loss.detach(), extra)


@dataclass(frozen=True)
class DPO(Objective):
    """Diffusion-DPO (Wallace et al., CVPR 2024): the best image of a group against its worst.

    Args:
        beta: as in GDRO, of mean-reduced errors.
    """

    beta: float = 100.0
    group_size = 2
    draw = "best and worst"

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        scores = implicit_reward(signals.errors, signals.reference, self.beta)
        order = targets.sort(dim=-1, descending=True, stable=True).indices
        winner, loser = scores.gather(-1, order).unbind(-1)
        # A pair of equal rewards has no winner; GroupData leaves such groups out.
        loss, stats = dpo_loss(winner, loser)
        return ObjectiveResult(loss, stats, loss.detach(), {})


@dataclass(frozen=True)
class DGPO(Objective):
    """Direct Group Preference Optimization: advantages of whole groups, deterministic rollouts.

    Args:
        beta: scale of the group's weight; the paper: 100.
        kl: weight of the mean squared difference from the base's velocity; the paper: 0.02.
        clip: how far (as a ratio) an image may move from the older policy before its gradient is
            left out; 0 is no clip. The paper: 0.01.
        sigma_min: lowest noise level to train at; the paper: 0.67 for text, 0.82 for composition.
            Below it the pictures rot.
        advantage_scale: advantages in deviations of each "group" or of the whole "batch".
        advantage_limit: largest advantage, in deviations; the paper: 5.
    """

    beta: float = 100.0
    kl: float = 0.02
    clip: float = 0.01
    sigma_min: float = 0.67
    advantage_scale: str = "group"
    advantage_limit: float = 5.0

    @property
    def uses_drift(self) -> bool:
        return self.kl > 0

    @property
    def uses_old(self) -> bool:
        return self.clip > 0

    def targets(self, rewards: Tensor) -> Tensor:
        return group_advantages(rewards, self.advantage_scale, self.advantage_limit)

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        group_loss, seen = dgpo_loss(
            signals.errors, signals.reference, targets, self.beta, signals.old, self.clip
        )
        scores = implicit_reward(signals.errors, signals.reference, self.beta)
        loss = group_loss + self.kl * signals.drift.mean()
        extra = {"weight": seen.weight, "clipped": seen.clipped}
        return ObjectiveResult(loss, group_stats(scores, targets), group_loss.detach(), extra)


def top1_error(errors: Tensor, rewards: Tensor) -> Tensor:
    """Velocity error of each group's best image (ties: their mean), then the mean over groups."""
    best = (rewards == rewards.amax(-1, keepdim=True)).to(errors.dtype)
    return ((errors * best).sum(-1) / best.sum(-1)).mean()


def old_policy_decay(step: int) -> float:
    """Decay of DGPO's older policy, a fast moving average: ``min(0.3, 0.001 step)``."""
    return min(0.3, 0.001 * step)
