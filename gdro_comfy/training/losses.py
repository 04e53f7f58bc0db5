"""Group losses: pure functions of implicit rewards (``scores``) and explicit rewards.

Sources: GDRO, arXiv 2601.02036; Plackett-Luce ranking; DPO, Rafailov et al. 2023; DGPO, "Reinforcing
Diffusion Models by Direct Group Preference Optimization". Every loss takes ``[k]`` or ``[groups, k]``
in any order and returns the mean over groups. The first three are unchanged when a constant is added
to all scores, or to all rewards, of a group, and are computed in at least float32, relative to the
largest score, so that scores of 1e4 are safe.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


class GroupStats(NamedTuple):
    """Diagnostics of a loss, detached.

    Args:
        accuracy: share of the pairs with different rewards that the scores order as the rewards do;
            tied scores count half; NaN if no pair differs.
        margin: mean over groups of the best image's score minus the worst one's.
    """

    accuracy: Tensor
    margin: Tensor


def _prepare(scores: Tensor, rewards: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as ``[groups, k]``, sorted by falling reward, at least float32."""
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


def group_stats(scores: Tensor, rewards: Tensor) -> GroupStats:
    """Return how well the scores order a group's images; shapes as in ``gdro_loss``."""
    return _stats(*_prepare(scores, rewards))


def _stats(s: Tensor, r: Tensor) -> GroupStats:
    s = s.detach()
    k = s.shape[-1]
    above, below = torch.triu_indices(k, k, offset=1, device=s.device)
    differs = r[:, above] > r[:, below]
    right = 0.5 + 0.5 * torch.sign(s[:, above] - s[:, below])
    return GroupStats((right * differs).sum() / differs.sum(), (s[:, 0] - s[:, -1]).mean())


def gdro_loss(scores: Tensor, rewards: Tensor, temperature: float) -> tuple[Tensor, GroupStats]:
    """Return the group-level loss of GDRO: at each rank, the cross-entropy to a softened choice by reward.

    With rewards sorted to fall, ``q_i(j) = softmax over j = i..k of (r_j / tau)`` and::

        loss = sum over i = 1..k-1 of [ logsumexp_{m >= i} s_m  -  sum_{j >= i} q_i(j) s_j ]

    Temperature 0 is the limit, ``ranking_loss``, in which tied rewards share their rank evenly.

    Args:
        scores: implicit rewards ``-beta (e_theta - e_ref)``, ``[k]`` or ``[groups, k]``.
        rewards: explicit rewards of the same shape.
        temperature: tau >= 0, in units of reward; the paper uses 0.05 for rewards in [0, 1].
    """
    if temperature < 0:
        raise ValueError(f"temperature must not be negative, not {temperature}")
    s, r = _prepare(scores, rewards)
    k = s.shape[-1]
    # Row i of the [groups, k, k] arrays is rank i; columns j < i are no longer available.
    remaining = torch.ones(k, k, dtype=torch.bool, device=s.device).triu()
    # Rewards relative to the best remaining one, so that a tiny temperature cannot overflow.
    gap = r.unsqueeze(-2) - r.unsqueeze(-1)
    logits = gap / temperature if temperature > 0 else torch.where(gap == 0, 0.0, -torch.inf)
    q = logits.masked_fill(~remaining, -torch.inf).softmax(-1)
    # Scores relative to the best remaining one: the loss does not change, and 1e4 keeps its digits.
    row = s.unsqueeze(-2).expand(-1, k, -1)
    row = row - row.detach().masked_fill(~remaining, -torch.inf).amax(-1, keepdim=True)
    chosen = (q * row.masked_fill(~remaining, 0.0)).sum(-1)
    per_rank = (row.masked_fill(~remaining, -torch.inf).logsumexp(-1) - chosen)[:, :-1]
    return per_rank.sum(-1).mean(), _stats(s, r)


def ranking_loss(scores: Tensor, rewards: Tensor) -> tuple[Tensor, GroupStats]:
    """Return the Plackett-Luce negative log-likelihood of the order by reward: GDRO at temperature 0.

    Without ties this is ``sum_i [logsumexp_{m >= i} s_m - s_i]``.
    """
    return gdro_loss(scores, rewards, 0.0)


def dpo_loss(scores_winner: Tensor, scores_loser: Tensor) -> tuple[Tensor, GroupStats]:
    """Return ``-log sigmoid(s_winner - s_loser)``, averaged over pairs: GDRO with k = 2 at temperature 0.

    Args:
        scores_winner, scores_loser: implicit rewards of the pairs, a scalar or ``[pairs]``.
    """
    dtype = torch.promote_types(scores_winner.dtype, torch.float32)
    margin = scores_winner.to(dtype) - scores_loser.to(dtype)
    detached = margin.detach()
    stats = GroupStats((0.5 + 0.5 * torch.sign(detached)).mean(), detached.mean())
    return -logsigmoid(margin).mean(), stats


def group_advantages(
    rewards: Tensor, scale: str = "group", limit: float = 5.0, eps: float = 1e-4
) -> Tensor:
    """Return DGPO's advantages ``clip((r - group mean) / (deviation + eps), -limit, limit)``.

    Args:
        rewards: ``[k]`` or ``[groups, k]``.
        scale: whose deviation: that of each "group", or of the whole "batch", which gives groups with
            small differences a small weight.
    """
    if scale not in ("group", "batch"):
        raise ValueError(f"scale must be 'group' or 'batch', not {scale!r}")
    r = rewards.to(torch.promote_types(rewards.dtype, torch.float32))
    centred = r - r.mean(-1, keepdim=True)
    deviation = r.std(-1, keepdim=True, correction=0) if scale == "group" else r.std(correction=0)
    return (centred / (deviation + eps)).clamp(-limit, limit)


class DGPOStats(NamedTuple):
    """Diagnostics of ``dgpo_loss``, detached.

    Args:
        weight: mean group weight ``w``.
        clipped: share of images whose gradient the clip dropped.
    """

    weight: Tensor
    clipped: Tensor


def dgpo_loss(
    errors: Tensor,
    reference_errors: Tensor,
    advantages: Tensor,
    beta: float,
    old_errors: Tensor | None = None,
    clip: float = 0.0,
) -> tuple[Tensor, DGPOStats]:
    """Return the loss of Direct Group Preference Optimization, without its KL term.

    With ``d = e_theta - e_ref``, detached, and k images a group::

        w = sigmoid( sum_i A_i beta d_i / k )
        loss = mean over groups and images of  w A_i e_theta_i

    Given the errors of an older policy, an image that has moved far enough has no gradient:
    ``exp(e_old - e_theta)`` above ``1 + clip`` with A > 0, or below ``1 - clip`` with A < 0.

    Args:
        errors, reference_errors, old_errors: velocity errors, ``[k]`` or ``[groups, k]``; only
            ``errors`` carries gradients.
        advantages: of the same shape, from ``group_advantages``.
        beta: > 0; the paper uses 100 with mean-reduced errors.
        clip: > 0 if ``old_errors`` is given; the paper uses 0.01.
    """
    e = errors.to(torch.promote_types(errors.dtype, torch.float32))
    a = advantages.detach().to(e.dtype)
    d = e.detach() - reference_errors.detach().to(e.dtype)
    weight = torch.sigmoid((a * beta * d).mean(-1, keepdim=True))
    far = torch.zeros_like(a, dtype=torch.bool)
    if old_errors is not None:
        ratio = torch.exp(old_errors.detach().to(e.dtype) - e.detach())
        far = ((a > 0) & (ratio > 1 + clip)) | ((a < 0) & (ratio < 1 - clip))
    live = torch.where(far, e.detach(), e)
    stats = DGPOStats(weight.mean(), far.to(e.dtype).mean())
    return (weight * a * live).mean(), stats
