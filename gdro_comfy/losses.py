"""Group losses: pure functions of implicit rewards (``scores``) and explicit rewards.

Sources: GDRO, arXiv 2601.02036; Plackett-Luce ranking; DPO, Rafailov et al. 2023. Every loss takes
``[k]`` or ``[groups, k]`` in any order, returns the mean over groups, and is unchanged when a constant
is added to all scores, or to all rewards, of a group. All are computed in at least float32, relative
to the largest score, so that scores of 1e4 are safe.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class GroupStats(NamedTuple):
    """What a loss saw, detached: ``accuracy`` is the share of pairs with unlike rewards that the
    scores order as the rewards do (0.5 for tied scores; NaN where no pair differs); ``margin`` is the
    mean score of a group's best image minus that of its worst."""

    accuracy: Tensor
    margin: Tensor


def _prepare(scores: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Both as [groups, k], sorted by falling reward, at least float32."""
    if scores.shape != rewards.shape or scores.ndim not in (1, 2):
        raise ValueError(
            "scores and rewards must both be [k] or [groups, k], not "
            f"{list(scores.shape)} and {list(rewards.shape)}"
        )
    if scores.shape[-1] < 2:
        raise ValueError(f"a group needs at least 2 images, not {scores.shape[-1]}")
    s = scores.to(torch.promote_types(scores.dtype, torch.float32)).reshape(-1, scores.shape[-1])
    r = rewards.detach().to(s.dtype).reshape(s.shape)
    r, order = r.sort(dim=-1, descending=True, stable=True)
    return s.gather(-1, order), r


def _stats(s: Tensor, r: Tensor) -> GroupStats:
    s = s.detach()
    k = s.shape[-1]
    above, below = torch.triu_indices(k, k, offset=1, device=s.device)
    differs = r[:, above] > r[:, below]
    right = 0.5 + 0.5 * torch.sign(s[:, above] - s[:, below])
    return GroupStats((right * differs).sum() / differs.sum(), (s[:, 0] - s[:, -1]).mean())


def gdro_loss(scores: Tensor, rewards: Tensor, temperature: float) -> tuple[Tensor, GroupStats]:
    """The group-level loss of GDRO: at each place, cross-entropy to a softened choice by reward.

    With rewards sorted to fall, ``q_i(j) = softmax over j = i..k of (r_j / tau)`` and::

        loss = sum over i = 1..k-1 of [ logsumexp_{m >= i} s_m  -  sum_{j >= i} q_i(j) s_j ]

    Temperature 0 is the limit: ``ranking_loss``, where tied rewards share their place evenly.

    Args:
        scores: implicit rewards ``-beta (e_theta - e_ref)``, ``[k]`` or ``[groups, k]``.
        rewards: explicit rewards of the same shape.
        temperature: tau >= 0, in units of reward; the paper uses 0.05 for rewards in [0, 1].
    """
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, not {temperature}")
    s, r = _prepare(scores, rewards)
    k = s.shape[-1]
    # Row i of the [groups, k, k] arrays is place i, columns j < i are out of the choice.
    remaining = torch.ones(k, k, dtype=torch.bool, device=s.device).triu()
    # Rewards relative to the best remaining one, so that a tiny temperature cannot overflow.
    gap = r.unsqueeze(-2) - r.unsqueeze(-1)
    logits = gap / temperature if temperature > 0 else torch.where(gap == 0, 0.0, -torch.inf)
    q = logits.masked_fill(~remaining, -torch.inf).softmax(-1)
    # Scores relative to the best remaining one: the loss does not change, and 1e4 keeps its digits.
    row = s.unsqueeze(-2).expand(-1, k, -1)
    row = row - row.detach().masked_fill(~remaining, -torch.inf).amax(-1, keepdim=True)
    chosen = (q * row.masked_fill(~remaining, 0.0)).sum(-1)
    places = (row.masked_fill(~remaining, -torch.inf).logsumexp(-1) - chosen)[:, :-1]
    return places.sum(-1).mean(), _stats(s, r)


def ranking_loss(scores: Tensor, rewards: Tensor) -> tuple[Tensor, GroupStats]:
    """The Plackett-Luce negative log-likelihood of the order by reward: GDRO at temperature 0.

    Without ties this is ``sum_i [logsumexp_{m >= i} s_m - s_i]``.
    """
    return gdro_loss(scores, rewards, 0.0)


def dpo_loss(scores_winner: Tensor, scores_loser: Tensor) -> tuple[Tensor, GroupStats]:
    """``-log sigmoid(s_winner - s_loser)``, the mean over pairs: GDRO with k = 2 at temperature 0.

    Args:
        scores_winner, scores_loser: implicit rewards of the pairs, a scalar or ``[pairs]``.
    """
    dtype = torch.promote_types(scores_winner.dtype, torch.float32)
    margin = scores_winner.to(dtype) - scores_loser.to(dtype)
    seen = margin.detach()
    stats = GroupStats((0.5 + 0.5 * torch.sign(seen)).mean(), seen.mean())
    return -logsigmoid(margin).mean(), stats
