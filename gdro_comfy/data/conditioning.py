"""Encoded prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Conditioning:
    """Encoded prompts: named tensors whose first dimension is the prompt. ``select`` and ``cat`` keep
    that order; what the names mean is the family's own affair."""

    tensors: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def select(self, index: Sequence[int] | Tensor) -> Conditioning:
        """The prompts at these places; a place may come more than once."""
        places = torch.as_tensor(index, dtype=torch.long)
        return Conditioning({name: t[places.to(t.device)] for name, t in self.tensors.items()})

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Conditioning:
        return Conditioning({name: t.to(device, dtype) for name, t in self.tensors.items()})

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        names = parts[0].tensors
        return Conditioning({name: torch.cat([p.tensors[name] for p in parts]) for name in names})
