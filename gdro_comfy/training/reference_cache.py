"""Errors of the reference at fixed draws of noise, kept so that each is measured only once.

With ``draws`` fixed pairs of noise and sigma for each group, instead of new ones in every step, the
reference's velocity error of an image at a draw is always the same number. It is measured when it is first
needed, and kept with the checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .batches import Batch


class ReferenceCache:
    """Errors of the reference, ``[groups, draws, images]`` float32 on the CPU; NaN where not measured."""

    def __init__(self, groups: int, draws: int, images: int) -> None:
        self.errors = torch.full((groups, draws, images), torch.nan)

    def get(self, batch: Batch) -> Tensor:
        """Return the errors of a batch's images, ``[groups, k]``; NaN where not measured."""
        return self.errors[self._index(batch)]

    def hit_rate(self, batch: Batch) -> float:
        """Return the share of a batch's images that need no pass of the reference, 0 to 1."""
        return float((~self.get(batch).isnan()).float().mean())

    def put(self, batch: Batch, errors: Tensor) -> None:
        """Keep the errors of a batch's images, ``[groups, k]``."""
        self.errors[self._index(batch)] = errors.to("cpu", torch.float32)

    @staticmethod
    def _index(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return batch.groups[:, None], batch.draws[:, None], batch.images
