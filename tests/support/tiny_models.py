"""Tiny pipelines of both families with random weights, made in a second."""

from __future__ import annotations

import torch

WORDS = (
    *("a", "red", "blue", "green", "circle", "square", "star", "two", "one", "of", "left"),
    *("sign", "that", "says", "OPEN", "and", "the"),
)


def clip(with_projection: bool, width: int = 32):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=1000, hidden_size=width, intermediate_size=48, projection_dim=width,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=16,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config)


def t5(width: int = 48):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=64, d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=8,
    )  # fmt: skip
    return T5EncoderModel(config)


def clip_tokenizer():
    from transformers import CLIPTokenizer

    from gdro_comfy.models import loading

    folder = loading.bundled_folder("tiny SD3") / "tokenizer"
    return CLIPTokenizer.from_pretrained(folder)


def t5_tokenizer():
    """A tokenizer with one token per word and, as T5's, pad 0, </s> 1 at the end, <unk> 2."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=512,
    )  # fmt: skip


def vae(width: int = 8, groups: int = 4):
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(width,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=1, norm_num_groups=groups,
        latent_channels=16, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
        use_post_quant_conv=False, sample_size=64,
    )  # fmt: skip


def flux_pipeline(
    guidance_embeds: bool = True, heads: int = 2, head_width: int = 16, seed: int = 0
):
    """A FLUX.1 with blocks of both kinds: dev if it takes the guidance, schnell if not."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    torch.manual_seed(seed)
    transformer = FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=head_width,
        num_attention_heads=heads, joint_attention_dim=48, pooled_projection_dim=32,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6) if head_width == 16 else (16, 56, 56),
    )  # fmt: skip
    shifted = {"use_dynamic_shifting": True, "shift": 3.0} if guidance_embeds else {"shift": 1.0}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shifted),
        vae=vae(),
        text_encoder=clip(False),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer,
    )


def sd3_pipeline(dynamic: bool = False, with_t5: bool = True, seed: int = 0):
    """A small SD3.5-medium: dual attention in its first block, and T5."""
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    torch.manual_seed(seed)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=3, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=72, caption_projection_dim=32,
        pooled_projection_dim=64, out_channels=16, pos_embed_max_size=16,
        dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=dynamic, shift=3.0, base_shift=0.6, max_shift=1.2
        ),
        vae=vae(),
        text_encoder=clip(True),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip(True),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5(72) if with_t5 else None,
        tokenizer_3=t5_tokenizer() if with_t5 else None,
    )
