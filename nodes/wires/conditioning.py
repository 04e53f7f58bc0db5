"""ComfyUI's CONDITIONING: stored, moved to a device, and shared by the images of one call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...gdro_comfy.data.conditioning import Conditioning, StructuredConditioning
from ...gdro_comfy.errors import InputError


def values(cond: Conditioning) -> tuple[Any, ...]:
    if not isinstance(cond, StructuredConditioning):
        raise InputError(
            "model",
            "the prompts were encoded by another kind of model",
            "Use one model throughout.",
        )
    return cond.values


def detached(item: Any) -> Any:
    """Copy CONDITIONING to the CPU, free of inference mode, as lists and dicts."""
    if isinstance(item, Tensor):
        return item.detach().to("cpu", copy=True)
    if isinstance(item, dict):
        return {key: detached(value) for key, value in item.items()}
    if isinstance(item, (list, tuple)):
        return [detached(value) for value in item]
    return item


def on_device(value: Any, device: torch.device) -> Any:
    """Copy tensors to a device, so that autograd may save them."""
    if isinstance(value, Tensor):
        moved = value.to(device)
        return moved.clone() if moved.is_inference() else moved
    if isinstance(value, (list, tuple)):
        return [on_device(item, device) for item in value]
    return value


def with_values(item: Any) -> Any:
    """Replace tensors on the meta device by ones on the CPU: masks of nothing but tokens, for example."""
    if isinstance(item, Tensor):
        return torch.ones(item.shape, dtype=item.dtype) if item.is_meta else item
    if isinstance(item, dict):
        return {key: with_values(value) for key, value in item.items()}
    return [with_values(value) for value in item] if isinstance(item, (list, tuple)) else item


def calls(prompts: Sequence[Any], together: bool) -> list[tuple[list[int], list[Any]]]:
    """Group images by prompt: one call of the network takes one CONDITIONING.

    Prompts that consist of tokens and a summary alone, of equal shapes, share a call.

    Args:
        together: whether images may share a call at all.

    Returns:
        For each call the indices of its images, and their CONDITIONING.
    """
    if not together:
        return [([i], prompt) for i, prompt in enumerate(prompts)]
    groups: dict[Any, list[int]] = {}
    for index, prompt in enumerate(prompts):
        groups.setdefault(signature(prompt), []).append(index)
    merged = []
    for indices in groups.values():
        first = prompts[indices[0]]
        if all(prompts[i] is first for i in indices):
            merged.append((indices, first))
            continue
        tokens = torch.cat([prompts[i][0][0] for i in indices])
        options = dict(first[0][1])
        if isinstance(options.get("pooled_output"), Tensor):
            options["pooled_output"] = torch.cat(
                [prompts[i][0][1]["pooled_output"] for i in indices]
            )
        merged.append((indices, [[tokens, options]]))
    return merged


def signature(prompt: Any) -> Any:
    """Return what prompts must have in common to share a call of the network."""
    if len(prompt) != 1:
        return id(prompt)
    tokens, options = prompt[0]
    others = {k: v for k, v in options.items() if k != "pooled_output"}
    plain = all(v is None or isinstance(v, (bool, int, float, str)) for v in others.values())
    if not plain or not isinstance(tokens, Tensor) or len(tokens) != 1:
        return id(prompt)
    pooled = options.get("pooled_output")
    shape = tuple(pooled.shape) if isinstance(pooled, Tensor) else None
    return tuple(tokens.shape), shape, tuple(sorted(others.items(), key=str))
