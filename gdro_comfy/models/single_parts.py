"""Build each part of a model from a single file: its configuration from shapes, then its weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from . import original_layouts
from .families import FLUX, Family
from .stored_weights import Stored, StoredLinear
from .weights import Reader, Source, fill, unlike_release

Keep = Callable[[str, Stored], bool]
"""Says of a linear layer's name and weight whether it keeps it as it is stored; see ``weights.fill``."""


def readable_on(device: torch.device) -> Keep:
    """Return whether a device can read a stored weight: Apple's has no fp8."""
    return lambda name, weight: device.type != "mps" or weight.values.element_size() > 1


def transformer(
    family: Family, source: Source, dtype: torch.dtype, readable: Keep, changes: bool = False
) -> Any:
    """Build the network from a file of either layout.

    The blocks' linear layers keep weights that are stored in fewer bytes than the dtype has.

    Args:
        readable: says which weights the device can read as they are stored.
        changes: whether these weights are about to be merged with others or quantized: then none of them is
            converted before.
    """
    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

    original = source.part.layout == "original"
    if family is FLUX:
        config = _flux_config(source, original)
        network = FluxTransformer2DModel
        names = original_layouts.flux_names(config["num_layers"], config["num_single_layers"])
    else:
        config = _sd3_config(source, original)
        network = SD3Transformer2DModel
        names = original_layouts.sd3_names(config["num_layers"])
    # On the meta device its buffers, too: SD3's positions, which the file has, would take gigabytes to make.
    with torch.device("meta"):
        model = network(**config)
    with Reader(source, dtype) as reader:
        if original:
            shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
            swapped = {
                old for old, new in names.items() if new[0].startswith(original_layouts.SWAPPED)
            }

            def read(key: str) -> Tensor | Stored:
                return (reader.read if key.rpartition(".")[0] in swapped else reader.stored)(key)

            try:
                state = original_layouts.convert(reader.keys, read, names, shapes)
            except (KeyError, RuntimeError, ValueError) as error:
                raise unlike_release(source, str(error)) from error
        else:
            state = {key: reader.stored(key) for key in reader.keys}

    def keep(name: str, weight: Stored) -> bool:
        smaller = weight.values.element_size() < dtype.itemsize
        return "transformer_blocks." in name and readable(name, weight) and (changes or smaller)

    return fill(model, state, source, dtype, keep)


def _flux_config(source: Source, original: bool) -> dict[str, Any]:
    """Return the configuration of diffusers' FLUX.1 transformer."""
    if original:
        norm, hidden = "double_blocks.0.img_attn.norm.key_norm.", source.shape("img_in.weight")[0]
        head = (source.shape(f"{norm}scale") or source.shape(f"{norm}weight"))[0]
        text, pooled = "txt_in.weight", "vector_in.in_layer.weight"
        blocks = ("double_blocks.{}.", "single_blocks.{}.")
        guided = source.shape("guidance_in.in_layer.weight")
    else:
        hidden = source.shape("x_embedder.weight")[0]
        head = source.shape("transformer_blocks.0.attn.norm_q.weight")[0]
        text, pooled = "context_embedder.weight", "time_text_embed.text_embedder.linear_1.weight"
        blocks = ("transformer_blocks.{}.", "single_transformer_blocks.{}.")
        guided = source.shape("time_text_embed.guidance_embedder.linear_1.weight")
    side = head * 7 // 16
    return {
        "in_channels": 64,
        "num_layers": source.count(blocks[0]),
        "num_single_layers": source.count(blocks[1]),
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": source.shape(text)[1],
        "pooled_projection_dim": source.shape(pooled)[1],
        "guidance_embeds": bool(guided),
        "axes_dims_rope": (head - 2 * side, side, side),
    }


def _sd3_config(source: Source, original: bool) -> dict[str, Any]:
    """Return the configuration of diffusers' SD3 transformer."""
    if original:
        patch, positions, pooled = "x_embedder.proj.weight", "pos_embed", "y_embedder.mlp.0.weight"
        block, out = "joint_blocks.{}.", "final_layer.linear.weight"
        dual, norm = ".x_block.attn2.qkv.weight", "joint_blocks.0.x_block.attn.ln_q.weight"
    else:
        patch, positions = "pos_embed.proj.weight", "pos_embed.pos_embed"
        pooled = "time_text_embed.text_embedder.linear_1.weight"
        block, out = "transformer_blocks.{}.", "proj_out.weight"
        dual, norm = ".attn2.to_q.weight", "transformer_blocks.0.attn.norm_q.weight"
    hidden, channels, _, size = source.shape(patch)
    blocks = source.count(block)
    # Every released SD3 has heads of 64; a tiny one may be narrower than that.
    head = (source.shape(norm) or (min(64, hidden),))[0]
    first = block.format(0)[:-1]
    return {
        "sample_size": 128,
        "patch_size": size,
        "in_channels": channels,
        "out_channels": source.shape(out)[0] // size**2,
        "num_layers": blocks,
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": source.shape("context_embedder.weight")[1],
        "caption_projection_dim": hidden,
        "pooled_projection_dim": source.shape(pooled)[1],
        "pos_embed_max_size": math.isqrt(source.shape(positions)[1]),
        "dual_attention_layers": tuple(
            i for i in range(blocks) if source.shape(first.replace("0", str(i)) + dual)
        ),
        "qk_norm": "rms_norm" if source.shape(norm) else None,
    }


def clip(
    source: Source, dtype: torch.dtype, readable: Keep, projected: bool, own_projection: bool
) -> Any:
    """Build CLIP-L or CLIP-G; as ``t5``, it keeps its weights as they are stored.

    Args:
        readable: as for ``transformer``.
        projected: whether the summary passes through a text projection.
        own_projection: whether that is the file's; otherwise it is the identity, as for CLIP-L in SD3.
    """
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    # transformers 5 saves a CLIP without projection without this component.
    stem = "" if source.part.layout == "bare" else "text_model."
    tokens, width = source.shape(f"{stem}embeddings.token_embedding.weight")
    config = CLIPTextConfig(
        vocab_size=tokens,
        hidden_size=width,
        projection_dim=width,
        intermediate_size=source.shape(f"{stem}encoder.layers.0.mlp.fc1.weight")[0],
        num_hidden_layers=source.count(f"{stem}encoder.layers.{{}}."),
        num_attention_heads=width // 64,
        max_position_embeddings=source.shape(f"{stem}embeddings.position_embedding.weight")[0],
        hidden_act="gelu" if width == 1280 else "quick_gelu",
        bos_token_id=tokens - 2,
        eos_token_id=tokens - 1,
        pad_token_id=1,
    )
    with init_empty_weights():
        model = (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)
    with Reader(source, dtype) as reader:
        own = (
            ("text_model.", "text_proj")
            if stem
            else ("embeddings.", "encoder.", "final_layer", "text_proj")
        )
        state: dict[str, Tensor | Stored] = {
            k if stem or k.startswith("text_proj") else f"text_model.{k}": reader.stored(k)
            for k in reader.keys
            if k.startswith(own)
        }
    state.pop("text_model.embeddings.position_ids", None)
    projection = state.pop("text_projection.weight", None)
    if projected:
        if projection is None or not own_projection:
            projection = torch.eye(width, dtype=dtype)
        state["text_projection.weight"] = projection
    if not any(name.startswith("text_model.") for name in model.state_dict()):
        # transformers 5 has dropped this prefix from one of the two classes.
        state = {name.removeprefix("text_model."): tensor for name, tensor in state.items()}
    return fill(model, state, source, dtype, readable)


def t5(source: Source, dtype: torch.dtype, readable: Keep) -> Any:
    """Build T5-XXL from a file of any dtype; its linear layers keep their weights as they are stored.

    Args:
        readable: as for ``transformer``.
    """
    from accelerate import init_empty_weights
    from transformers import T5Config, T5EncoderModel

    first = "encoder.block.0.layer."
    tokens, width = t5_words(source)
    buckets, heads = source.shape(f"{first}0.SelfAttention.relative_attention_bias.weight")
    config = T5Config(
        vocab_size=tokens,
        d_model=width,
        d_kv=source.shape(f"{first}0.SelfAttention.q.weight")[0] // heads,
        d_ff=source.shape(f"{first}1.DenseReluDense.wi_0.weight")[0],
        num_layers=source.count("encoder.block.{}."),
        num_heads=heads,
        relative_attention_num_buckets=buckets,
        feed_forward_proj="gated-gelu",
    )
    with init_empty_weights():
        model = T5EncoderModel(config)
    with Reader(source, dtype) as reader:
        state: dict[str, Tensor | Stored] = {
            k: reader.stored(k) for k in reader.keys if k.startswith(("encoder.", "shared."))
        }
        words = reader.read(
            "shared.weight" if "shared.weight" in state else "encoder.embed_tokens.weight"
        )
    state |= {"shared.weight": words, "encoder.embed_tokens.weight": words}
    model = fill(model, state, source, dtype, readable)
    if dtype == torch.float16:
        # These layers overflow in float16.
        for name, layer in list(model.named_modules()):
            if name.endswith(".wo") and isinstance(layer, StoredLinear):
                layer.dtype = torch.float32
            elif name.endswith(".wo"):
                layer.float()
    model.tie_weights()
    return model


def t5_words(source: Source) -> tuple[int, ...]:
    """Return the shape of T5's embeddings, [tokens, width], which have two names."""
    return source.shape("shared.weight") or source.shape("encoder.embed_tokens.weight")


def vae(source: Source, scale: float, shift: float, dtype: torch.dtype) -> Any:
    """Build a VAE with the scale and shift of its family's latents."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    original = source.part.layout == "original"
    level = "encoder.down.{}." if original else "encoder.down_blocks.{}."
    block = "block" if original else "resnets"
    levels = source.count(level)
    widths = tuple(
        source.shape(f"{level.format(i)}{block}.0.conv1.weight")[0] for i in range(levels)
    )
    config = {
        "block_out_channels": widths,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": source.count(level.format(0) + block + ".{}."),
        "latent_channels": source.shape("decoder.conv_in.weight")[1],
        "use_quant_conv": bool(source.shape("quant_conv.weight")),
        "use_post_quant_conv": bool(source.shape("post_quant_conv.weight")),
    }
    model: Any = AutoencoderKL(**config, scaling_factor=scale, shift_factor=shift, sample_size=1024)
    with Reader(source, dtype) as reader:
        state = {
            k: reader.read(k)
            for k in reader.keys
            if k.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))
        }
    if original:
        from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

        state = convert_ldm_vae_checkpoint(state, config)
    return fill(model, state, source, dtype)
