"""The state of a training on disk: weights, their averages, AdamW's moments, and the step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..data.damage import DamagedFile
from ..data.files import read_tensors, write_tensors

_REMEDY = (
    "Put a copy of it in its place, or delete it: the training then starts again from the first step. "
    "Groups, scores and finished LoRAs are not touched."
)


def save(
    path: Path,
    step: int,
    parameters: Mapping[str, torch.nn.Parameter],
    averages: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
) -> None:
    """Write everything the next step depends on, in one atomic file."""
    tensors: dict[str, Tensor] = {"step": torch.tensor(step)}
    tensors |= {f"extra.{name}": tensor for name, tensor in extra.items()}
    for name, parameter in parameters.items():
        tensors[f"weight.{name}"] = parameter
        for average, weights in averages.items():
            tensors[f"{average}.{name}"] = weights[name]
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"adam.{key}.{name}"] = value
    write_tensors(path, tensors)


@torch.no_grad()
def restore(
    path: Path,
    parameters: Mapping[str, torch.nn.Parameter],
    averages: Mapping[str, Mapping[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    extra: Mapping[str, Tensor],
) -> int:
    """Restore a checkpoint in place and return its step; 0 if there is none.

    Raises:
        DamagedFile: it is damaged, or of another adapter; nothing was restored.
    """
    if not path.is_file():
        return 0
    tensors = read_tensors(path, _REMEDY)
    needed = {f"extra.{name}": tensor for name, tensor in extra.items()}
    for name, parameter in parameters.items():
        needed[f"weight.{name}"] = parameter
        needed |= {f"{average}.{name}": weights[name] for average, weights in averages.items()}
    fits = all(n in tensors and tensors[n].shape == needed[n].shape for n in needed)
    if not fits or tensors.get("step", torch.zeros(2)).numel() != 1:
        raise DamagedFile(path, "it lacks some of the state of this training", _REMEDY)
    for name, tensor in extra.items():
        tensor.copy_(tensors[f"extra.{name}"])
    for name, parameter in parameters.items():
        parameter.copy_(tensors[f"weight.{name}"])
        for average, weights in averages.items():
            weights[name].copy_(tensors[f"{average}.{name}"])
        moments = {
            key: tensors[f"adam.{key}.{name}"]
            for key in ("step", "exp_avg", "exp_avg_sq")
            if f"adam.{key}.{name}" in tensors
        }
        if moments:
            # AdamW keeps its moments beside the parameter; its step count too if fused, else on the CPU.
            beside = (
                "exp_avg",
                "exp_avg_sq",
                *(["step"] if optimizer.defaults.get("fused") else []),
            )
            optimizer.state[parameter] = {
                key: value.to(parameter.device) if key in beside else value
                for key, value in moments.items()
            }
    return int(tensors["step"])
