"""What the base's errors were at fixed draws of noise, so that it need not be run again for them.

With ``draws`` fixed pairs of noise and noise level for each group, instead of new ones in every step, the
base's velocity error of an image at a draw is always the same number: it is computed when it is first
needed, and kept with the checkpoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .batches import Batch


class ReferenceBank:
    """Errors of the base, ``[groups, draws, images]`` float32 on the CPU; NaN where not known yet."""

    def __init__(self, groups: int, draws: int, images: int) -> None:
        self.errors = torch.full((groups, draws, images), torch.nan)

    def known(self, batch: Batch) -> Tensor:
        """Those of a batch's images, ``[B, k]``."""
        return self.errors[self._places(batch)]

    def share_known(self, batch: Batch) -> float:
        """How many of a batch's images need no pass of the base, 0 to 1."""
        return float((~self.known(batch).isnan()).float().mean())

    def keep(self, batch: Batch, errors: Tensor) -> None:
        """Note those of a batch's images, ``[B, k]``."""
        self.errors[self._places(batch)] = errors.to("cpu", torch.float32)

    @staticmethod
    def _places(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        return batch.groups[:, None], batch.draws[:, None], batch.images
