"""The weights of a LoRA in memory, whatever file or training they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_A, _B = ".lora_A", ".lora_B"


@dataclass(frozen=True, eq=False)
class LoRAWeights:
    """A LoRA whose layers share one rank and one alpha.

    A layer adds ``scale * B @ A`` to the weight ``[out, in]`` of its module.

    Args:
        tensors: ``<module>.lora_A`` ``[rank, in]`` and ``<module>.lora_B`` ``[out, rank]``.
        rank: the inner size of every layer.
        alpha: the update is scaled by ``alpha / rank``.
    """

    tensors: Mapping[str, Tensor]
    rank: int
    alpha: float

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the modules that the LoRA changes."""
        return tuple(name.removesuffix(_A) for name in self.tensors if name.endswith(_A))

    @property
    def scale(self) -> float:
        """The factor of every layer's update, ``alpha / rank``."""
        return self.alpha / self.rank

    def shapes(self) -> dict[str, tuple[int, int]]:
        """Return the (out, in) of every module that the LoRA changes."""
        return {
            module: (self.tensors[module + _B].shape[0], self.tensors[module + _A].shape[1])
            for module in self.modules
        }
