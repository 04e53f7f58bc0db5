"""The training objectives: a dataclass of settings each, with the loss of some groups.

An objective turns what is measured on some groups (``Signals``) into one number; the loop in
``trainer.py`` is the same for all of them.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ..models.flow import implicit_reward
from .losses import GroupStats, dgpo_loss, dpo_loss, gdro_loss, group_advantages, group_stats


class Signals(NamedTuple):
    """What is measured on some groups, each ``[groups, k]``.

    Args:
        errors: velocity errors of the model in training, with gradients.
        reference: velocity errors of the reference, with its guidance if the objective gives it one.
        drift: mean squared difference from the reference's velocity, with gradients; NaN where the
            reference's errors came from a cache.
        old: velocity errors of an older policy; None unless the objective uses one.
        beta_scale: factors of an automatic beta, ``[groups, 1]``.
        sigma: noise levels, ``[groups, 1]``.
        old_drift: mean squared difference from the older policy's velocity, with gradients.
        mixed_squares, mixed_distances: mean squared and mean absolute errors of the mixtures with the
            older policy's velocity, with gradients, ``[mixtures, groups, k]``.

    The last three are None unless the objective uses them.
    """

    errors: Tensor
    reference: Tensor
    drift: Tensor
    old: Tensor | None = None
    beta_scale: Tensor | None = None
    sigma: Tensor = torch.ones(1, 1)
    old_drift: Tensor | None = None
    mixed_squares: Tensor | None = None
    mixed_distances: Tensor | None = None


class ObjectiveResult(NamedTuple):
    """The loss to minimise, and detached scalars for the history."""

    loss: Tensor
    stats: GroupStats
    group_loss: Tensor
    extra: dict[str, Tensor]


class Objective(ABC):
    """A training algorithm: a dataclass of settings with a loss.

    The class attributes are defaults; an algorithm overrides them with a setting or a constant.
    """

    group_size: int = 0
    """Images of a prompt that train together; 0 is all."""
    draw: str = "random"
    """How they are chosen, one of ``group_sampling.DRAWS``."""
    sigma_min: float = 0.0
    """Lowest noise level to train at."""
    auto_beta: bool = False
    """Whether ``beta_control`` scales its beta."""
    noise_levels: int = 1
    """At how many noise levels each group of a step trains."""
    shared_noise: bool = True
    """Whether the images of a group share the noise at a level."""
    old_by_round: bool = False
    """Whether the older policy moves at the end of each round, instead of at every step."""
    reference_guidance: float = 1.0
    """Scale of the classifier-free guidance of the reference's velocity; 1 is none."""
    added_later: ClassVar[tuple[str, ...]] = ()
    """Settings that trainings of earlier versions do not record: left out where they have their default."""

    @property
    def uses_old(self) -> bool:
        """Whether its loss needs the errors of an older policy."""
        return False

    @property
    def uses_drift(self) -> bool:
        """Whether its loss needs the drift from the reference's velocity."""
        return False

    @property
    def mixtures(self) -> tuple[float, ...]:
        """Shares m of velocities ``v_old + m (v - v_old)`` whose errors its loss needs."""
        return ()

    @property
    def uses_old_drift(self) -> bool:
        """Whether its loss needs the drift from the older policy's velocity."""
        return bool(self.mixtures)

    def old_decay(self, step: int) -> float:
        """Return the decay with which the older policy moves after ``step`` steps, in [0, 1]."""
        return old_policy_decay(step)

    def targets(self, rewards: Tensor) -> Tensor:
        """Return what ``loss`` receives for the rewards ``[groups, k]`` of a whole batch.

        The order inside each group stays the same.
        """
        return rewards

    def record(self) -> dict[str, Any]:
        """Return name and settings, JSON-able."""
        fields = {field.name: field for field in dataclasses.fields(self)}  # type: ignore[arg-type]
        settings = {name: getattr(self, name) for name in fields}
        for name in self.added_later:
            if settings[name] == fields[name].default:
                del settings[name]
        return {"name": type(self).__name__, **settings}

    @abstractmethod
    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        """Return the mean loss over groups; ``targets`` are ``[groups, k]``."""


@dataclass(frozen=True)
class GDRO(Objective):
    """Group-level direct reward optimisation (arXiv 2601.02036).

    Args:
        group_size: k, images of a prompt that train together. 2 is unstable, 6 was best in the paper.
        beta: how strongly the model is held to its base. A low beta learns fast and then fools the
            reward; a high one learns little. The paper: 12 for text, 6 for composition.
        temperature: tau, in units of reward; differences well below it hardly count. The paper: 0.05.
        top1_weight: gamma, weight of the velocity error of each group's best image. The paper: 0.5 to 1.
        draw: which k of a prompt's images train together, "random" (the paper) or "best and worst".
        auto_beta: let ``beta_control`` scale beta by noise level. Not part of the paper.
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
        beta: as in GDRO, for mean-reduced errors.
    """

    beta: float = 100.0
    group_size = 2
    draw = "best and worst"

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        scores = implicit_reward(signals.errors, signals.reference, self.beta)
        order = targets.sort(dim=-1, descending=True, stable=True).indices
        winner, loser = scores.gather(-1, order).unbind(-1)
        # Groups of equal rewards, which have no winner, are left out of the data.
        loss, stats = dpo_loss(winner, loser)
        return ObjectiveResult(loss, stats, loss.detach(), {})


@dataclass(frozen=True)
class DGPO(Objective):
    """Direct Group Preference Optimization: advantages of whole groups, deterministic rollouts.

    Args:
        beta: scale of the group's weight; the paper: 100.
        kl: weight of the mean squared difference from the base's velocity; the paper: 0.02.
        clip: how far (as a ratio) an image may move from the older policy before its gradient is
            dropped; 0 is no clip. The paper: 0.01.
        sigma_min: lowest noise level to train at; the paper: 0.67 for text, 0.82 for composition.
            Training below it damages the images.
        advantage_scale: advantages in deviations of each "group" or of the whole "batch".
        advantage_limit: largest advantage, in deviations; the paper: 5.
        reference_guidance: scale of the classifier-free guidance of the base's velocity, in the group's
            weight and in the kl term; 1 is none. Published for groups sampled without guidance: 4.5, with
            a clip of 0.001.
        noise_levels: at which each group trains in a step; published: 4.
    """

    beta: float = 100.0
    kl: float = 0.02
    clip: float = 0.01
    sigma_min: float = 0.67
    advantage_scale: str = "group"
    advantage_limit: float = 5.0
    reference_guidance: float = 1.0
    noise_levels: int = 1
    added_later = ("reference_guidance", "noise_levels")

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
    """Return the velocity error of each group's best image (ties: their mean), averaged over groups."""
    best = (rewards == rewards.amax(-1, keepdim=True)).to(errors.dtype)
    return ((errors * best).sum(-1) / best.sum(-1)).mean()


def old_policy_decay(step: int) -> float:
    """Return the decay of DGPO's older policy, a fast moving average: ``min(0.3, 0.001 step)``."""
    return min(0.3, 0.001 * step)
