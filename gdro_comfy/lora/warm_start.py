"""Training on from an earlier LoRA: its file as ``GDRO_ALIGNED``, and its weights as a start."""

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
    from ..data.aligned import TrainResult
    from ..models.base import FlowModel


class Start:
    """The weights that a training begins with.

    Args:
        aligned: the LoRA.
        model: its base.
        config: of the adapter in training.

    Raises:
        InputError: the LoRA is for another model, or of another rank or target.
    """

    def __init__(self, aligned: TrainResult, model: FlowModel, config: AdapterConfig) -> None:
        files.check_trained_for(aligned, model)
        self._state = files.load(aligned.path)
        self.name = aligned.path.stem
        first = next(key for key in self._state if key.endswith(".lora_A"))
        rank = len(self._state[first])
        own = float(self._state.get(f"{first.removesuffix('.lora_A')}.alpha", rank))
        self._scale = own / config.alpha
        if rank != config.rank:
            raise InputError(
                "rank",
                f"{self.name} has rank {rank}, and here it is {config.rank}",
                f"Set rank to {rank}, or disconnect start_from.",
            )
        modules = set(files.shapes(self._state))
        if modules != set(model.adapter_modules(config.target)):
            fits = [
                target
                for target in ("attention", "attention+mlp")
                if modules == set(model.adapter_modules(target))
            ]
            raise InputError(
                "target",
                f"{self.name} changes other layers than {config.target}",
                f"Set target to {fits[0]}." if fits else "Use a LoRA that GDRO Train LoRA made.",
            )

    def record(self) -> dict[str, Any]:
        """Which weights these are, JSON-able: not when or where they were written."""
        weights = hashlib.sha256()
        for name, tensor in sorted(self._state.items()):
            weights.update(name.encode() + tensor.contiguous().numpy().tobytes())
        return {"lora": self.name, "weights": weights.hexdigest()[:16]}

    @torch.no_grad()
    def put_into(self, parameters: Mapping[str, Tensor]) -> None:
        """Make the adapter what the LoRA is, also where its alpha is another one."""
        for name, parameter in parameters.items():
            factor = self._scale if name.endswith(".lora_B") else 1.0
            parameter.copy_(self._state[name] * factor)
