"""Keep implicit rewards in a useful range: scale GDRO's beta by noise level.

A velocity error of a given size means something else at every noise level, so one beta makes implicit
rewards that drown in rounding at one level and saturate at another. The control watches their spread
inside groups, for each quarter of the noise levels, and scales beta where the spread leaves its range.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 4
"""Equal parts of the noise levels that are watched separately."""
SPREAD = (0.5, 5.0)
"""The range in which the deviation of the implicit rewards inside a group is held, in nats."""
MAX_SCALE = 4.0
"""Beta is multiplied or divided by at most this."""
_DECAY = 0.9


class BetaControl:
    """Scale beta by running means of the spread of ``e - e_ref`` inside groups.

    ``spread`` ``[BINS]`` is its whole state; NaN where nothing has been observed.
    """

    def __init__(self, beta: float) -> None:
        self.beta = beta
        self.spread = torch.full((BINS,), torch.nan)

    def scale(self, sigma: Tensor) -> Tensor:
        """Return the factors of beta for groups at these noise levels, ``[groups]``.

        A factor is 1 where the spread is in its range, or unknown.
        """
        nats = self.beta * self.spread[_bins(sigma)]
        low, high = SPREAD
        factor = nats.clamp(low, high) / nats
        return factor.nan_to_num(1.0, posinf=MAX_SCALE).clamp(1 / MAX_SCALE, MAX_SCALE)

    def observe(self, sigma: Tensor, errors: Tensor, reference: Tensor) -> None:
        """Update the running means: ``sigma [groups]``, errors ``[groups, k]``."""
        deviation = (errors - reference).detach().float().cpu().std(-1, correction=0)
        for index in range(BINS):
            in_bin = deviation[_bins(sigma) == index]
            if len(in_bin):
                old, new = self.spread[index], in_bin.mean()
                self.spread[index] = new if old.isnan() else old * _DECAY + new * (1 - _DECAY)


def _bins(sigma: Tensor) -> Tensor:
    return (sigma.cpu() * BINS).long().clamp(0, BINS - 1)
