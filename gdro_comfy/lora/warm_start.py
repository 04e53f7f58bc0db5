"""A finished LoRA as the start of another training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError
from ..models.base import AdapterConfig
from . import files

if TYPE_CHECKING:
    from ..data.aligned import AlignedLoRA
    from ..models.base import FlowModel


class WarmStart:
    """The weights that a training starts from.

    Args:
        aligned: the LoRA.
        model: its base.
        config: the adapter to be trained.

    Raises:
        InputError: the LoRA is for another model, or of another rank or target.
    """

    def __init__(self, aligned: AlignedLoRA, model: FlowModel, config: AdapterConfig) -> None:
        files.check_trained_for(aligned, model)
        self.name = aligned.path.stem
        self._weights = files.load(aligned.path)
        self._scale = self._weights.alpha / config.alpha
        rank = self._weights.rank
        if rank != config.rank:
            raise InputError(
                "rank",
                f"{self.name} has rank {rank}, this training has rank {config.rank}",
                f"Set rank to {rank}, or disconnect start_from.",
            )
        modules = set(self._weights.modules)
        if modules != set(model.adapter_modules(config.target)):
            targets = [
                target
                for target in ("attention", "attention+mlp")
                if modules == set(model.adapter_modules(target))
            ]
            raise InputError(
                "target",
                f"{self.name} changes other layers than {config.target}",
                f"Set target to {targets[0]}."
                if targets
                else "Use a LoRA that GDRO Train LoRA made.",
            )

    def record(self) -> dict[str, Any]:
        """Return which weights these are, JSON-able, whatever their folder and date."""
        tensors = dict(self._weights.tensors)
        for module in self._weights.modules:
            tensors[f"{module}.alpha"] = torch.tensor(self._weights.alpha)
        weights = hashlib.sha256()
        for name, tensor in sorted(tensors.items()):
            weights.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return {"lora": self.name, "weights": weights.hexdigest()[:16]}

    @torch.no_grad()
    def copy_to(self, parameters: Mapping[str, Tensor]) -> None:
        """Set an adapter to the LoRA's update, also where the two differ in alpha."""
        for name, parameter in parameters.items():
            factor = self._scale if name.endswith(".lora_B") else 1.0
            parameter.copy_(self._weights.tensors[name] * factor)
