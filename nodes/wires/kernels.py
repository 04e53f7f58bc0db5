"""Rotary position embeddings that gradients pass through, in place of ComfyUI's fused kernels.

Several networks call comfy_kitchen's kernels whether or not they are trained, and those kernels have no
backward pass. The layouts are comfy_kitchen's: a pair of channels is turned by its own 2 x 2 matrix, and
the members of a pair are neighbours (interleaved) or half of the channels apart (split half).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import comfy.quant_ops
import torch.nn.functional as F
from torch import Tensor


def rotate(x: Tensor, matrices: Tensor, split_half: bool = False) -> Tensor:
    """Turn the pairs of channels of ``x`` ``[..., channels]``; the dtype stays.

    Args:
        matrices: ``[..., channels / 2, 2, 2]``, of a shape that broadcasts to that of the pairs.
        split_half: whether a pair is half of the channels apart.
    """
    pairs = x.unflatten(-1, (2, -1)).transpose(-1, -2) if split_half else x.unflatten(-1, (-1, 2))
    if not split_half and 1 not in (x.shape[2], matrices.shape[2]):
        matrices = matrices[:, :, : x.shape[2]]  # made for a longer sequence
    pairs = pairs.to(matrices.dtype)
    turned = matrices[..., 0] * pairs[..., :1] + matrices[..., 1] * pairs[..., 1:]
    return (turned.transpose(-1, -2) if split_half else turned).reshape(x.shape).type_as(x)


def normalize_and_rotate(
    x: Tensor,
    matrices: Tensor,
    scale: Tensor,
    epsilon: float,
    split_half: bool = False,
    channels: int = 0,
) -> Tensor:
    """Divide ``x`` by its root mean square over the channels, scale it, and turn its pairs of channels.

    Args:
        scale: ``[channels]``.
        channels: how many of the channels are turned, from the first on; 0 turns all.
    """
    normal = F.rms_norm(x, (x.shape[-1],), weight=scale, eps=epsilon)
    if not channels or channels == x.shape[-1]:
        return rotate(normal, matrices, split_half)
    turned = rotate(normal[..., :channels], matrices, split_half)
    return F.pad(turned, (0, x.shape[-1] - channels)) + F.pad(normal[..., channels:], (channels, 0))


def _kernels(split_half: bool) -> dict[str, Any]:
    """Return substitutes of comfy_kitchen's kernels of one layout, by name."""

    def one(x: Tensor, freqs_cis: Tensor) -> Tensor:
        return rotate(x, freqs_cis, split_half)

    def both(xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
        return one(xq, freqs_cis), one(xk, freqs_cis)

    def normal(x: Tensor, freqs_cis: Tensor, scale: Tensor, epsilon: float = 1e-6) -> Tensor:
        return normalize_and_rotate(x, freqs_cis, scale, epsilon, split_half)

    def both_normal(
        q: Tensor,
        k: Tensor,
        freqs_cis: Tensor,
        q_scale: Tensor,
        k_scale: Tensor | None = None,
        epsilon: float = 1e-6,
        rot_dim: int = 0,
    ) -> tuple[Tensor, Tensor]:
        scales = (q_scale, q_scale if k_scale is None else k_scale)
        query, key = (
            normalize_and_rotate(x, freqs_cis, scale, epsilon, split_half, rot_dim)
            for x, scale in zip((q, k), scales, strict=True)
        )
        return query, key

    layout = "_split_half" if split_half else ""
    return {
        f"apply_rope{layout}1": one,
        f"apply_rope{layout}": both,
        f"rms_rope{layout}1": normal,
        f"rms_rope{layout}": both_normal,
    }


@contextlib.contextmanager
def differentiable() -> Iterator[None]:
    """Have ComfyUI's networks rotate by code with a backward pass within this context.

    The kernels are attributes of a module: other work of the process must not see the substitutes
    afterwards.
    """
    kitchen = getattr(comfy.quant_ops, "ck", None)
    substitutes = {**_kernels(False), **_kernels(True)}
    own = {name: getattr(kitchen, name) for name in substitutes if hasattr(kitchen, name)}
    try:
        for name in own:
            setattr(kitchen, name, substitutes[name])
        yield
    finally:
        for name, kernel in own.items():
            setattr(kitchen, name, kernel)
