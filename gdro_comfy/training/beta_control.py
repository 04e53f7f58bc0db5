"""Keeping implicit rewards in a useful range by itself: GDRO's beta, adjusted per noise level.

A velocity error means something else at every noise level, so one beta makes implicit rewards that
are lost in rounding at one level and saturated at another. The control watches their spread inside
groups, per quarter of the noise levels, and scales beta where it leaves the range.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 4
SPREAD = (0.5, 5.0)
"""The range in which the deviation of the implicit rewards inside a group is held, in nats."""
LARGEST = 4.0
"""Beta is scaled by at most this, up or down."""
_DECAY = 0.9


class BetaControl:
    """Scales for beta from running means of the spread of ``e - e_ref`` inside groups.

    ``spread`` ``[BINS]`` is all of its state; NaN where nothing was seen yet.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.spread = torch.full((BINS,), torch.nan)

    def scale(self, sigma: Tensor) -> Tensor:
        """What to multiply beta by for groups at these noise levels ``[groups]``; 1 where the spread
        is in its range, or unknown."""
        nats = self.beta * self.spread[_bins(sigma)]
        low, high = SPREAD
        wanted = nats.clamp(low, high) / nats
        return wanted.nan_to_num(1.0, posinf=LARGEST).clamp(1 / LARGEST, LARGEST)

    def observe(self, sigma: Tensor, errors: Tensor, reference: Tensor) -> None:
        """Take in what a step saw: ``sigma [groups]``, errors ``[groups, k]``."""
        seen = (errors - reference).detach().float().cpu().std(-1, correction=0)
        for place in range(BINS):
            here = seen[_bins(sigma) == place]
            if len(here):
                old = self.spread[place]
                new = here.mean()
                self.spread[place] = new if old.isnan() else old * _DECAY + new * (1 - _DECAY)


def _bins(sigma: Tensor) -> Tensor:
    return (sigma.cpu() * BINS).long().clamp(0, BINS - 1)
