"""ComfyUI's networks at their released sizes, on the meta device: shapes without weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

FLUX = {
    "in_channels": 16, "out_channels": 16, "patch_size": 2, "context_in_dim": 4096, "hidden_size": 3072,
    "mlp_ratio": 4.0, "num_heads": 24, "depth": 19, "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56], "theta": 10000, "qkv_bias": True, "txt_ids_dims": [],
}  # fmt: skip


@dataclass(frozen=True)
class Network:
    """A released model.

    Args:
        title: its name.
        family: class of ``comfy.supported_models``.
        config: ``unet_config`` of that class.
        weight_bytes: bytes of a weight in the file that the shipped workflow names, as downloaded.
        tokens: length of a short prompt's encoding, as ComfyUI's text encoder pads it.
        width: numbers per token.
        pooled: numbers of the pooled encoding.
        cfg: whether sampling takes two passes a step.
    """

    title: str
    family: str
    config: dict[str, Any]
    weight_bytes: float
    tokens: int
    width: int
    pooled: int = 1
    cfg: bool = True


NETWORKS = (
    Network(
        "SD3.5-medium", "SD3",
        {
            "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 24, "input_size": None,
            "pos_embed_max_size": 384, "num_patches": 384 * 384, "adm_in_channels": 2048,
            "context_embedder_config": {
                "target": "torch.nn.Linear", "params": {"in_features": 4096, "out_features": 1536},
            },
            "pos_embed_scaling_factor": None, "qk_norm": "rms",
            "x_block_self_attn_layers": list(range(13)),
        },
        2, 154, 4096, 2048,
    ),
    Network(
        "FLUX.1-dev", "Flux",
        {**FLUX, "image_model": "flux", "vec_in_dim": 768, "guidance_embed": True},
        1, 256, 4096, 768, cfg=False,
    ),
    Network(
        "Z-Image", "ZImage",
        {
            "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 3840, "n_layers": 30,
            "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30, "multiple_of": 256,
            "ffn_dim_multiplier": 8 / 3, "qk_norm": True, "cap_feat_dim": 2560,
            "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512], "rope_theta": 256.0,
            "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
        },
        2, 64, 2560,
    ),
    Network(
        "Qwen-Image", "QwenImage",
        {
            "image_model": "qwen_image", "patch_size": 2, "in_channels": 64, "out_channels": 16,
            "num_layers": 60, "attention_head_dim": 128, "num_attention_heads": 24,
            "joint_attention_dim": 3584, "axes_dims_rope": (16, 56, 56),
        },
        1, 64, 3584,
    ),
    Network(
        "FLUX.2 klein base 4B", "Flux2",
        {
            "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1,
            "vec_in_dim": None, "context_in_dim": 7680, "hidden_size": 3072, "mlp_ratio": 3.0,
            "num_heads": 24, "depth": 5, "depth_single_blocks": 20, "axes_dim": [32, 32, 32, 32],
            "theta": 2000, "qkv_bias": False, "guidance_embed": False, "txt_ids_dims": [3],
            "global_modulation": True, "mlp_silu_act": True, "ops_bias": False,
            "default_ref_method": "index", "ref_index_scale": 10.0,
        },
        2, 512, 7680,
    ),
    Network(
        "Chroma1-HD", "Chroma",
        {
            **FLUX, "image_model": "chroma", "in_channels": 64, "out_channels": 64, "vec_in_dim": None,
            "in_dim": 64, "out_dim": 3072, "hidden_dim": 5120, "n_layers": 5,
        },
        1, 256, 4096,
    ),
)  # fmt: skip
