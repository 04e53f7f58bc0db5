"""Sizes of a model on ComfyUI's wires: latent cells, patches and the tokens of a prompt."""

from __future__ import annotations

from typing import Any

from torch import nn

_TEXT_WIDTHS = (
    "context_in_dim", "context_dim", "joint_attention_dim", "cap_feat_dim", "cond_seq_dim",
    "llm_features_dim", "text_feat_dim", "instruction_feat_dim", "text_dim", "in_text_dim",
    "text_in_dim", "crossattn_emb_channels",
)  # fmt: skip
"""What the configurations of networks call the numbers in a token of text."""


def downscale(vae: Any, model: Any) -> int:
    """Return the pixels on one side of a latent cell."""
    own = getattr(vae, "spacial_compression_decode", None)
    ratio = own() if own is not None else None
    if isinstance(ratio, int) and ratio > 0:
        return ratio
    return int(model.get_model_object("latent_format").spacial_downscale_ratio)


def patch_side(config: dict[str, Any], network: nn.Module) -> int:
    """Return the latent cells on one side of a patch, 2 where the network does not say."""
    for name in ("patch_size", "patch_spatial", "patch"):
        side = config.get(name) or getattr(network, name, None)
        if side:
            return max(1, int(max(side[-2:]) if isinstance(side, (list, tuple)) else side))
    return 2


def text_width(config: dict[str, Any]) -> int | None:
    """Return how many numbers a network reads for a token of text, None where it does not say."""
    embedder = config.get("context_embedder_config") or {}
    widths = [config.get(name) for name in _TEXT_WIDTHS]
    widths.append(embedder.get("params", {}).get("in_features"))
    return next((width for width in widths if isinstance(width, int)), None)
