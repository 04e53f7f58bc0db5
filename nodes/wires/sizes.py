"""How a model on ComfyUI's wires divides an image into latent cells and patches."""

from __future__ import annotations

from typing import Any

from torch import nn


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
