"""Scale the loss where activations are float16, so that small gradients do not become zero.

float16 has no numbers between 0 and 6e-8, where many gradients of a velocity error lie. The loss is
multiplied by a power of two, and the gradients of the adapter, which are float32, are divided by it again.
torch.amp.GradScaler does the same around an optimizer; this loop clips, checks and resumes by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

_FIRST, _MOST = 2.0**14, 2.0**16
_PATIENCE = 500
"""Finite steps after which a larger scale is tried."""


class LossScale:
    """The factor of the loss: 1 unless the network computes in float16.

    A step whose gradients overflow is left out, and the scale is halved.

    Args:
        dtype: in which the network computes.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self.enabled = dtype == torch.float16
        self.state = torch.tensor([_FIRST if self.enabled else 1.0, 0.0])
        """The scale, and the finite steps since it changed; saved with the checkpoint."""

    @property
    def value(self) -> float:
        return float(self.state[0])

    @torch.no_grad()
    def unscale(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Divide the gradients by the scale."""
        if self.enabled:
            for parameter in parameters:
                if isinstance(parameter.grad, Tensor):
                    parameter.grad.div_(self.value)

    def update(self, finite: bool) -> bool:
        """Adapt the scale to a step; return whether a smaller one may mend gradients that overflowed."""
        if not self.enabled:
            return False
        scale, steps = self.state.tolist()
        if not finite:
            self.state[:] = torch.tensor([max(1.0, scale / 2), 0.0])
            return scale > 1
        steps += 1
        if steps >= _PATIENCE:
            scale, steps = min(_MOST, 2 * scale), 0
        self.state[:] = torch.tensor([scale, steps])
        return False
