"""Models of both families with random weights, for measurements: of the released size, or small.

They have no text encoders: a prompt is random embeddings of the right size.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from gdro_comfy.data.conditioning import BatchedConditioning, Conditioning
from gdro_comfy.models.families import FLUX, SD3
from gdro_comfy.models.loading import flow_model

SD35_MEDIUM = {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)), "qk_norm": "rms_norm",
}  # fmt: skip
FLUX_DEV = {
    "in_channels": 64, "num_layers": 19, "num_single_layers": 38, "attention_head_dim": 128,
    "num_attention_heads": 24, "joint_attention_dim": 4096, "pooled_projection_dim": 768,
    "guidance_embeds": True, "axes_dims_rope": (16, 56, 56),
}  # fmt: skip
_SMALL_SD3 = {
    "num_layers": 4, "num_attention_heads": 4, "caption_projection_dim": 256,
    "joint_attention_dim": 512, "pooled_projection_dim": 256, "dual_attention_layers": (0, 1),
}  # fmt: skip
_SMALL_FLUX = {
    "num_layers": 1, "num_single_layers": 3, "num_attention_heads": 2, "joint_attention_dim": 512,
    "pooled_projection_dim": 256,
}  # fmt: skip


class _NoEncoder(nn.Module):
    """A text encoder of width 0, for the family to look up its width."""

    config = SimpleNamespace(hidden_size=0)


def make(
    family: str, device: torch.device, dtype: torch.dtype = torch.float32, small: bool = False
) -> Any:
    """Make a model with random weights.

    Args:
        family: "sd3" (SD3.5-medium) or "flux" (FLUX.1-dev).
        device: where to compute.
        small: make a small model of the same architecture.
    """
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL, FluxTransformer2DModel, SD3Transformer2DModel

    flux = family == "flux"
    network, config = (
        (FluxTransformer2DModel, FLUX_DEV) if flux else (SD3Transformer2DModel, SD35_MEDIUM)
    )
    if small:
        config = {**config, **(_SMALL_FLUX if flux else _SMALL_SD3)}
    with init_empty_weights():
        transformer = network(**config)
    # Filling the weights is fast on the device; afterwards they rest on the CPU like any model's.
    transformer = transformer.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.02)
            elif name.endswith("weight"):
                parameter.fill_(1)
            else:
                parameter.zero_()
        for buffer in transformer.buffers():
            buffer.normal_(0, 0.02)
    pipeline = SimpleNamespace(
        transformer=transformer.to("cpu"),
        vae=AutoencoderKL(block_out_channels=(32,) * 4, latent_channels=16,
                          down_block_types=("DownEncoderBlock2D",) * 4,
                          up_block_types=("UpDecoderBlock2D",) * 4),
        text_encoder=_NoEncoder(), text_encoder_2=_NoEncoder(), text_encoder_3=_NoEncoder(),
        vae_scale_factor=8, default_sample_size=128, tokenizer_max_length=77,
    )  # fmt: skip
    return flow_model(FLUX if flux else SD3, pipeline, {"pipeline": "random"}, device)


def conditioning(model: Any, images: int) -> Conditioning:
    """Return random embeddings of one prompt, repeated for some images, in the model's dtype."""
    config = model.transformer.config
    hidden = torch.randn(1, model.text_tokens, config.joint_attention_dim)
    pooled = torch.randn(1, config.pooled_projection_dim)
    cond = BatchedConditioning({"hidden": hidden, "pooled": pooled}).to(model.device, model.dtype)
    return model.with_guidance(cond.select([0] * images), 3.5)
