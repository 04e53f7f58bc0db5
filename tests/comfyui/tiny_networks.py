"""Configurations of tiny networks of ComfyUI's image families, and what their text encoders hand over.

Each is what ComfyUI's detection makes of a file of that family, with fewer and narrower layers.
"""

import functools

import comfy.ldm.anima.model
import torch

WIDTH, POOLED = 48, 32
FLUX_LIKE = {
    "context_in_dim": WIDTH, "hidden_size": 128, "num_heads": 2, "depth": 2,
    "depth_single_blocks": 2,
}  # fmt: skip
FLUX = {
    **FLUX_LIKE, "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
    "vec_in_dim": POOLED, "mlp_ratio": 4.0, "axes_dim": [16, 24, 24], "theta": 10000,
    "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
LUMINA = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "n_layers": 2,
    "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 2, "multiple_of": 32,
    "ffn_dim_multiplier": 2.0, "qk_norm": True, "cap_feat_dim": WIDTH,
    "axes_dims": [16, 24, 24], "axes_lens": [64, 64, 64], "rope_theta": 10000.0,
}  # fmt: skip
OMNIGEN = {
    "axes_dim_rope": [16, 24, 24], "axes_lens": [64, 64, 64], "ffn_dim_multiplier": None,
    "hidden_size": 128, "in_channels": 16, "multiple_of": 32, "norm_eps": 1e-05,
    "num_attention_heads": 2, "num_kv_heads": 1, "num_layers": 2, "num_refiner_layers": 1,
    "out_channels": None, "patch_size": 2, "timestep_scale": 1000.0,
}  # fmt: skip
COSMOS = {
    "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 16, "out_channels": 16,
    "patch_spatial": 2, "patch_temporal": 1, "model_channels": 128, "concat_padding_mask": True,
    "crossattn_emb_channels": WIDTH, "pos_emb_cls": "rope3d", "pos_emb_learnable": True,
    "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30, "use_adaln_lora": True,
    "adaln_lora_dim": 16, "num_blocks": 2, "num_heads": 2, "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0, "extra_h_extrapolation_ratio": 1.0,
    "extra_w_extrapolation_ratio": 1.0, "extra_t_extrapolation_ratio": 1.0,
    "rope_enable_fps_modulation": False,
}  # fmt: skip
NETWORKS = {
    "Flux": FLUX,
    "FluxSchnell": {**FLUX, "guidance_embed": False},
    "LongCatImage": {
        **FLUX, "guidance_embed": False, "vec_in_dim": None, "txt_ids_dims": [1, 2],
        "yak_mlp": False, "txt_norm": False,
    },
    "Flux2": {
        **FLUX_LIKE, "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1,
        "vec_in_dim": None, "mlp_ratio": 3.0, "axes_dim": [16, 16, 16, 16], "theta": 2000,
        "qkv_bias": False, "guidance_embed": True, "txt_ids_dims": [3], "global_modulation": True,
        "mlp_silu_act": True, "ops_bias": False, "default_ref_method": "index",
        "ref_index_scale": 10.0,
    },
    "Chroma": {
        **FLUX_LIKE, "image_model": "chroma", "in_channels": 64, "out_channels": 64, "patch_size": 2,
        "vec_in_dim": None, "mlp_ratio": 4.0, "axes_dim": [16, 24, 24], "theta": 10000,
        "qkv_bias": True, "txt_ids_dims": [], "in_dim": 64, "out_dim": 128, "hidden_dim": 96,
        "n_layers": 2,
    },
    "Lumina2": LUMINA,
    "ZImage": {
        **LUMINA, "n_kv_heads": 4, "rope_theta": 256.0, "z_image_modulation": True,
        "time_scale": 1000.0, "pad_tokens_multiple": 32,
    },
    "QwenImage": {
        "image_model": "qwen_image", "patch_size": 2, "in_channels": 64, "out_channels": 16,
        "num_layers": 2, "attention_head_dim": 64, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "axes_dims_rope": (16, 24, 24),
    },
    "MageFlow": {
        "image_model": "mage_flow", "in_channels": 128, "out_channels": 128, "num_layers": 2,
        "attention_head_dim": 64, "num_attention_heads": 2, "joint_attention_dim": WIDTH,
        "axes_dims_rope": (16, 24, 24),
    },
    "SD3": {
        "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None,
        "pos_embed_max_size": 16, "num_patches": 256, "adm_in_channels": POOLED,
        "context_embedder_config": {
            "target": "torch.nn.Linear", "params": {"in_features": WIDTH, "out_features": 128},
        },
        "pos_embed_scaling_factor": None,
    },
    "AuraFlow": {
        "dim": 128, "n_layers": 3, "n_double_layers": 1, "n_heads": 2, "global_conddim": 128,
        "cond_seq_dim": WIDTH, "max_seq": 256,
    },
    "Krea2": {
        "image_model": "krea2", "features": 128, "channels": 16, "patch": 2, "layers": 2,
        "heads": 2, "kvheads": 1, "txtlayers": 3, "txtdim": WIDTH // 3, "tdim": 32, "txtheads": 2,
        "txtkvheads": 2,
    },
    "HiDream": {
        "image_model": "hidream", "attention_head_dim": 64, "axes_dims_rope": [32, 16, 16],
        "caption_channels": [WIDTH, WIDTH], "max_resolution": [32, 32], "in_channels": 16,
        "llama_layers": [0, 1, 1, 1], "num_attention_heads": 2, "num_routed_experts": 4,
        "num_activated_experts": 4, "num_layers": 2, "num_single_layers": 2, "out_channels": 16,
        "patch_size": 2, "text_emb_dim": POOLED,
    },
    "Omnigen2": {**OMNIGEN, "image_model": "omnigen2", "text_feat_dim": WIDTH},
    "Boogu": {
        **OMNIGEN, "image_model": "boogu", "instruction_feat_dim": WIDTH,
        "num_double_stream_layers": 2,
    },
    "JoyImage": {
        "image_model": "joyimage", "in_channels": 16, "hidden_size": 128, "patch_size": [1, 2, 2],
        "num_layers": 2, "num_attention_heads": 2, "text_dim": WIDTH, "rope_dim_list": [16, 24, 24],
    },
    "Ideogram4": {
        "image_model": "ideogram4", "in_channels": 128, "num_layers": 2, "num_attention_heads": 2,
        "attention_head_dim": 64, "intermediate_size": 192, "adaln_dim": 32,
        "llm_features_dim": WIDTH, "mrope_section": [12, 10, 10],
    },
    "Lens": {
        "image_model": "lens", "in_channels": 128, "out_channels": 32, "num_layers": 2,
        "num_attention_heads": 2, "enc_hidden_dim": WIDTH // 3, "multi_layer_encoder_feature": True,
        "selected_layer_index": (0, 1, 2),
    },
    "Kandinsky5Image": {
        "image_model": "kandinsky5", "model_dim": 128, "axes_dims": (16, 24, 24),
        "rope_scale_factor": (1.0, 1.0, 1.0), "time_dim": 64, "ff_dim": 256, "visual_embed_dim": 64,
        "num_text_blocks": 1, "num_visual_blocks": 2, "in_text_dim": WIDTH, "in_text_dim2": POOLED,
    },
    "Anima": {**COSMOS, "image_model": "anima"},
    "CosmosT2IPredict2": {**COSMOS, "image_model": "cosmos_predict2"},
    "ErnieImage": {
        "image_model": "ernie", "hidden_size": 128, "num_attention_heads": 2, "num_layers": 2,
        "ffn_hidden_size": 192, "text_in_dim": WIDTH, "rope_axes_dim": (16, 24, 24),
    },
    "HunyuanImage21": {
        **FLUX_LIKE, "image_model": "hunyuan_video", "in_channels": 64, "out_channels": 64,
        "patch_size": [1, 1], "vec_in_dim": None, "axes_dim": [32, 32], "meanflow": False,
        "mlp_ratio": 4.0, "theta": 256, "qkv_bias": True, "byt5": True, "guidance_embed": False,
        "use_cond_type_embedding": False, "vision_in_dim": None, "meanflow_sum": False,
    },
}  # fmt: skip
MASKED = {
    "Lumina2", "ZImage", "Omnigen2", "Boogu", "QwenImage", "Ideogram4", "Lens", "HunyuanImage21",
}  # fmt: skip
"""Families whose text encoders say which tokens are padding."""
UNPADDED = {"Omnigen2", "Boogu", "HunyuanImage21"}
"""Those of them that have none: their networks fail in ComfyUI, too, if a token is masked."""

GATES = {"AuraFlow": 0.07}
"""Standard deviation of the weights that scale what a block adds, where others than usual keep it sane."""


class TextEncoder:
    """Tokens drawn from the text, of another length for another text."""

    def __init__(self, family=""):
        self.family = family

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        generator = torch.Generator().manual_seed(len(text))

        def draw(*shape):
            return torch.randn(1, *shape, generator=generator)

        length = 4 + len(text) % 5
        tokens, options = draw(length, WIDTH), {"pooled_output": draw(POOLED)}
        if self.family in MASKED:
            padding = 0 if self.family in UNPADDED else 1
            options["attention_mask"] = (torch.arange(length)[None] < length - padding).long()
        if self.family == "HiDream":
            options["conditioning_llama3"] = draw(2, length, WIDTH)
        if self.family == "HunyuanImage21":
            options["conditioning_byt5small"] = draw(length, 1472)
        if self.family == "Anima":
            options["t5xxl_ids"] = torch.arange(length) + 7
            options["t5xxl_weights"] = torch.linspace(0.8, 1.2, length)
        return [[tokens, options]]


class Autoencoder:
    """As far as sampling needs one: it says how many pixels a latent cell has."""

    def __init__(self, patcher):
        self.ratio = patcher.get_model_object("latent_format").spacial_downscale_ratio

    def spacial_compression_decode(self):
        return self.ratio


def configuration(classes, family):
    """Return ComfyUI's description of the tiny network of a family."""
    config = getattr(classes, family)(dict(NETWORKS[family]))
    config.unet_config.update(NETWORKS[family])  # over what ComfyUI fixes for the family
    return config


comfy.ldm.anima.model.LLMAdapter = functools.partial(  # its size is fixed in ComfyUI's class
    comfy.ldm.anima.model.LLMAdapter, source_dim=WIDTH, target_dim=WIDTH, model_dim=64, num_layers=1,
    num_heads=2,
)  # fmt: skip
