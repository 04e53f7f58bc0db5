"""Which linear layers of a ComfyUI network a LoRA goes onto, found by what they are called."""

from __future__ import annotations

import re

from torch import nn

from ...gdro_comfy.errors import InputError
from .adapters import linear_layers

_ATTENTION = re.compile(r"attn|attention|qkv|to_[qkv]|to_out|(^|\.)[qkvo]_proj|linear1$")
_MLP = re.compile(
    r"mlp|ff|feed_forward|feedforward|linear2$|(^|\.)w[123]$|fc[12]$|(gate|up|down)_proj$"
)
_NEVER = re.compile(r"mod|adaln|norm|time|embed")
"""Parts of the names of linear layers, below their block: what attention and MLPs are called by the
networks that ComfyUI has, and what modulates them instead."""
_IDLE = re.compile(r"ref_image|siglip|vision")
"""Parts of the names of layers that run only if an image is given along with the text."""


def targets(network: nn.Module, target: str, title: str) -> list[str]:
    """Return the names of the layers that a target covers.

    Args:
        target: "attention" or "attention+mlp".
        title: of the model, for the message.

    Raises:
        InputError: the network has no layers with names that are known.
    """
    patterns = [_ATTENTION, *([_MLP] if target == "attention+mlp" else [])]
    names = []
    for name in linear_layers(network):
        inside = _below_block(name)
        if not inside or _NEVER.search(inside) or _IDLE.search(name):
            continue
        if any(p.search(inside) for p in patterns):
            names.append(name)
    if not names:
        raise InputError(
            "model",
            f"no {target} layers are known in this {title} network",
            "Report it with the name of the model: its layers have names that are new.",
        )
    return names


def shape(module: nn.Module) -> tuple[int, int]:
    """Return the (out, in) of a linear layer."""
    return int(module.out_features), int(module.in_features)  # type: ignore[arg-type]


def _below_block(name: str) -> str:
    """Return what follows the index of a block in a module's name, as "attn.qkv"; empty outside of one."""
    match = re.match(r".*?\.\d+\.(.+)", name)
    return match[1] if match else ""
