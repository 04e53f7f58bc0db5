"""Advantage-weighted matching: a policy gradient whose log-likelihood is the velocity error itself.

Source: "Advantage Weighted Matching", arXiv 2509.25050 (ICML 2026). It needs clean latents and rewards
alone, of any sampler.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..models.flow import implicit_reward
from .losses import group_advantages, group_stats
from .objectives import Objective, ObjectiveResult, Signals, old_policy_decay

_EPS = 1e-10


def matching_likelihood(errors: Tensor, sigma: Tensor, power: float = 0.25) -> Tensor:
    """Return ``-(sigma / p) ((e + eps)^p - eps^p)``, which stands for the log-likelihood.

    Args:
        errors: velocity errors, ``[groups, k]``.
        sigma: noise levels, ``[groups, 1]``.
        power: p in (0, 1]; 1 is the error itself. The paper: 0.25.
    """
    return -(sigma / power) * ((errors + _EPS).pow(power) - _EPS**power)


class AWMStats(NamedTuple):
    """Diagnostics of ``awm_loss``, detached.

    Args:
        ratio: mean ratio to the older policy.
        clipped: share of images without a gradient.
    """

    ratio: Tensor
    clipped: Tensor


def awm_loss(
    likelihoods: Tensor, old_likelihoods: Tensor, advantages: Tensor, clip: float
) -> tuple[Tensor, AWMStats]:
    """Return the clipped policy loss ``mean max(-A ratio, -A clip(ratio, 1 - c, 1 + c))``.

    The ratio is ``exp(logp - logp_old)``; all arguments but ``clip`` are ``[groups, k]``, and only
    ``likelihoods`` has gradients.
    """
    a = advantages.detach().to(likelihoods.dtype)
    ratio = torch.exp(likelihoods - old_likelihoods.detach())
    free, held = -a * ratio, -a * ratio.clamp(1 - clip, 1 + clip)
    stopped = (held > free) & ((ratio < 1 - clip) | (ratio > 1 + clip))
    stats = AWMStats(ratio.detach().mean(), stopped.to(ratio.dtype).mean())
    return torch.maximum(free, held).mean(), stats


@dataclass(frozen=True)
class AWM(Objective):
    """Advantage-weighted matching (ICML 2026), in its form with one older adapter.

    The older policy is the adapter that samples a round. After each round it moves towards the one in
    training, with decay ``min(0.3, 0.001 step)``. Without clip and ``old_kl`` it collapses.

    Args:
        kl: weight of the mean squared difference from the base's velocity; the paper: 0.001 for
            composition, 0.003 for text.
        old_kl: weight of the same from the older policy's velocity; the paper: 1.
        clip: how far the ratio to the older policy may move; the paper: 1, that is from 0 to 2.
        noise_levels: at which each group trains in a step; the paper: 6.
        power: of the velocity error, see ``matching_likelihood``.
        advantage_limit: largest advantage, in deviations of the whole batch; they are divided by it.
    """

    kl: float = 0.001
    old_kl: float = 1.0
    clip: float = 1.0
    noise_levels: int = 6
    power: float = 0.25
    advantage_limit: float = 5.0
    shared_noise = False
    old_by_round = True

    @property
    def uses_old(self) -> bool:
        return True

    @property
    def uses_drift(self) -> bool:
        return self.kl > 0

    @property
    def uses_old_drift(self) -> bool:
        return True

    def old_decay(self, step: int) -> float:
        return old_policy_decay(step)

    def targets(self, rewards: Tensor) -> Tensor:
        return group_advantages(rewards, "batch", self.advantage_limit) / self.advantage_limit

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        assert signals.old is not None
        assert signals.old_drift is not None
        now, old = (
            matching_likelihood(errors, signals.sigma, self.power)
            for errors in (signals.errors, signals.old)
        )
        policy, seen = awm_loss(now, old, targets, self.clip)
        loss = policy + self.old_kl * signals.old_drift.mean()
        if self.uses_drift:
            loss = loss + self.kl * signals.drift.mean()
        scores = implicit_reward(signals.errors, signals.reference, 1.0)
        extra = {
            "ratio": seen.ratio,
            "clipped": seen.clipped,
            "old_drift": signals.old_drift.detach().mean(),
        }
        return ObjectiveResult(loss, group_stats(scores, targets), policy.detach(), extra)
