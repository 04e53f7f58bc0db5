"""DiffusionNFT: learn from a positive and an implicit negative policy about the one that made the images.

Source: DiffusionNFT, arXiv 2509.16117 (ICLR 2026). It needs clean latents and rewards alone, of any sampler.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..models.flow import implicit_reward
from .losses import group_advantages, group_stats
from .objectives import Objective, ObjectiveResult, Signals

_LEAST_WEIGHT = 1e-5


def nft_rewards(rewards: Tensor, limit: float = 5.0) -> Tensor:
    """Return optimality in [0, 1]: advantages over the whole batch, from -limit..limit; 1/2 is the mean.

    Args:
        rewards: ``[groups, k]``.
    """
    return (group_advantages(rewards, "batch", limit) / (2 * limit) + 0.5).clamp(0, 1)


def nft_loss(
    squares: Tensor, distances: Tensor, optimality: Tensor, sigma: Tensor, beta: float, scale: float
) -> Tensor:
    """Return DiffusionNFT's loss without its KL term.

    With ``v+- = v_old +- beta (v - v_old)``, the estimates ``x0+- = x_t - sigma v+-`` and their weights
    ``w+- = max(mean |x0+- - x0|, 1e-5)``, which have no gradient::

        loss = mean scale [ r mean((x0+ - x0)^2 / w+) + (1 - r) mean((x0- - x0)^2 / w-) ] / beta

    Since ``x_t = x0 + sigma u``, the estimates are off by ``sigma (u - v+-)``, u being the target velocity.

    Args:
        squares: mean squared errors of v+ and of v-, with gradients, ``[2, groups, k]``.
        distances: mean absolute errors of the same.
        optimality: r in [0, 1], ``[groups, k]``.
        sigma: noise levels, ``[groups, 1]``.
        beta: > 0.
        scale: the limit of the advantages; the paper: 5.
    """
    weights = (sigma * distances.detach()).clamp(min=_LEAST_WEIGHT)
    positive, negative = sigma.pow(2) * squares / weights
    r = optimality.detach().to(squares.dtype)
    return (scale * (r * positive + (1 - r) * negative) / beta).mean()


@dataclass(frozen=True)
class NFT(Objective):
    """DiffusionNFT (ICLR 2026).

    The older policy is the adapter that samples a round. After each round it moves towards the one in
    training, with decay ``min(0.001 step, 0.5)``; the paper has another schedule for text.

    Args:
        beta: how firmly the model is held to the older policy: it moves by about 1 / beta. The paper: 1, or
            0.1 for text and for several rewards; 1 learned nothing on the bundled model.
        kl: weight of the mean squared difference from the base's velocity; the paper: 1e-4.
        noise_levels: at which each group trains in a step; the paper: nearly all of the sampler's.
        advantage_limit: advantage at which an image counts as wholly good or bad; the paper: 5.
    """

    beta: float = 0.1
    kl: float = 1e-4
    noise_levels: int = 2
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
    def mixtures(self) -> tuple[float, ...]:
        return (self.beta, -self.beta)

    def old_decay(self, step: int) -> float:
        return min(0.001 * step, 0.5)

    def targets(self, rewards: Tensor) -> Tensor:
        return nft_rewards(rewards, self.advantage_limit)

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        assert signals.mixed_squares is not None
        assert signals.mixed_distances is not None
        assert signals.old_drift is not None
        policy = nft_loss(
            signals.mixed_squares, signals.mixed_distances, targets, signals.sigma, self.beta,
            self.advantage_limit,
        )  # fmt: skip
        loss = policy + self.kl * signals.drift.mean() if self.uses_drift else policy
        scores = implicit_reward(signals.errors, signals.reference, 1.0)
        extra = {"old_drift": signals.old_drift.detach().mean()}
        return ObjectiveResult(loss, group_stats(scores, targets), policy.detach(), extra)
