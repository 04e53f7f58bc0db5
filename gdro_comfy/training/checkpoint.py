"""The state of a training on disk: weights, their averages, AdamW's moments, and the step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..data.files import read_tensors, write_tensors


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
    """Restore a checkpoint in place and return its step; 0 if there is none."""
    if not path.is_file():
        return 0
    tensors = read_tensors(path)
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
            # AdamW keeps its step count on the CPU and its moments beside the parameter.
            optimizer.state[parameter] = {
                key: value if key == "step" else value.to(parameter.device)
                for key, value in moments.items()
            }
    return int(tensors["step"])
