"""The training objectives: a data class of settings, and the loss of some groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from .flow import implicit_reward
from .losses import GroupStats, gdro_loss


class ObjectiveResult(NamedTuple):
    """``loss`` to minimise, and detached scalars for the history."""

    loss: Tensor
    stats: GroupStats
    group_loss: Tensor
    top_error: Tensor


class Objective(Protocol):
    """What the training loop needs of an algorithm: a data class of settings with a loss."""

    @property
    def group_size(self) -> int:
        """Images of a prompt that train together."""
        ...

    @property
    def draw(self) -> str:
        """How they are chosen, one of ``groups.DRAWS``."""
        ...

    def loss(self, errors: Tensor, reference_errors: Tensor, rewards: Tensor) -> ObjectiveResult:
        """All ``[groups, k]``; only ``errors`` carry gradients."""
        ...


@dataclass(frozen=True)
class GDRO:
    """Group-level direct reward optimisation (arXiv 2601.02036).

    Args:
        group_size: k, images of a prompt that train together. 2 is unstable, 6 was best in the paper.
        beta: how hard the model may move away from its base. Low learns fast and then fools the
            reward; high learns little. The paper: 12 for text, 6 for composition.
        temperature: tau, in units of reward: differences well below it hardly count. The paper: 0.05.
        top1_weight: gamma, holds the model to the best image of each group. The paper: 0.5 to 1.
        draw: which k of a prompt's images train together, "random" or "best and worst".
    """

    group_size: int = 6
    beta: float = 12.0
    temperature: float = 0.05
    top1_weight: float = 0.5
    draw: str = "random"

    def loss(self, errors: Tensor, reference_errors: Tensor, rewards: Tensor) -> ObjectiveResult:
        scores = implicit_reward(errors, reference_errors, self.beta)
        group_loss, stats = gdro_loss(scores, rewards, self.temperature)
        top = top1_error(errors, rewards)
        return ObjectiveResult(
            group_loss + self.top1_weight * top, stats, group_loss.detach(), top.detach()
        )


def top1_error(errors: Tensor, rewards: Tensor) -> Tensor:
    """Velocity error of each group's best image (ties: their mean), then the mean over groups."""
    best = (rewards == rewards.amax(-1, keepdim=True)).to(errors.dtype)
    return ((errors * best).sum(-1) / best.sum(-1)).mean()
