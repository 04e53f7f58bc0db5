"""Small versions of ComfyUI's single files: a few layers deep, but of real widths, to be recognised."""

from __future__ import annotations

from pathlib import Path

import tiny_models
import torch
from recording_host import RecordingHost
from safetensors.torch import save_file

from gdro_comfy.models import loading, original_layouts


class FilesHost(RecordingHost):
    """A host with small tokenizers."""

    def tokenizer_dir(self, kind):
        if kind == "clip":
            return loading.bundled_folder("tiny SD3") / "tokenizer"
        folder = self.output_dir / "t5_tokenizer"
        if not folder.is_dir():
            tiny_models.t5_tokenizer().save_pretrained(folder)
        return folder


def flux_transformer(guidance=True):
    from diffusers import FluxTransformer2DModel

    torch.manual_seed(0)
    return FluxTransformer2DModel(
        in_channels=64, num_layers=2, num_single_layers=2, attention_head_dim=128,
        num_attention_heads=1, joint_attention_dim=4096, pooled_projection_dim=768,
        guidance_embeds=guidance, axes_dims_rope=(16, 56, 56),
    )  # fmt: skip


def sd3_transformer(dual=True):
    from diffusers import SD3Transformer2DModel

    torch.manual_seed(0)
    return SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, num_layers=3, attention_head_dim=64,
        num_attention_heads=1, joint_attention_dim=4096, caption_projection_dim=64,
        pooled_projection_dim=2048, out_channels=16, pos_embed_max_size=16,
        dual_attention_layers=(0, 1) if dual else (), qk_norm="rms_norm" if dual else None,
    )  # fmt: skip


def clip(width, with_projection, words=1000, length=16):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(width)
    config = CLIPTextConfig(
        vocab_size=words, hidden_size=width, intermediate_size=16, projection_dim=width,
        num_hidden_layers=2, num_attention_heads=width // 64, max_position_embeddings=length,
        hidden_act="gelu" if width == 1280 else "quick_gelu",
        bos_token_id=words - 2, eos_token_id=words - 1, pad_token_id=1,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if with_projection else CLIPTextModel)(config)


def t5(words=64):
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(4)
    config = T5Config(
        vocab_size=words, d_model=4096, d_kv=8, d_ff=16, num_layers=2, num_heads=2,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=8,
    )  # fmt: skip
    return T5EncoderModel(config)


def original(model, names):
    """Return a transformer's state under its original names."""
    state, originals = dict(model.state_dict()), {}
    for old, modules in names.items():
        for end in (".weight", ".bias", ""):
            keys = [m.removeprefix(original_layouts.SWAPPED) + end for m in modules]
            if not all(key in state for key in keys):
                continue
            tensor = (
                torch.cat([state.pop(key) for key in keys]) if len(keys) > 1 else state.pop(keys[0])
            )
            if modules[0].startswith(original_layouts.SWAPPED):
                tensor = torch.cat(tuple(reversed(tensor.chunk(2))))
            norm = end == ".weight" and old.endswith(("query_norm", "key_norm"))
            originals[old + (".scale" if norm else end)] = tensor.contiguous()
    assert not state, list(state)
    return originals


def original_vae(model):
    """Return a VAE's state under its original names."""
    levels = len(model.config.block_out_channels)
    originals = {}
    for key, tensor in model.state_dict().items():
        for i in range(levels):
            key = key.replace(f"down_blocks.{i}.", f"down.{i}.")
            key = key.replace(f"up_blocks.{i}.", f"up.{levels - 1 - i}.")
        for new, old in (
            ("mid_block.resnets.0.", "mid.block_1."), ("mid_block.resnets.1.", "mid.block_2."),
            ("mid_block.attentions.0.", "mid.attn_1."), ("group_norm.", "norm."),
            ("to_q.", "q."), ("to_k.", "k."), ("to_v.", "v."), ("to_out.0.", "proj_out."),
            ("resnets.", "block."), ("downsamplers.0.", "downsample."),
            ("upsamplers.0.", "upsample."), ("conv_norm_out.", "norm_out."),
            ("conv_shortcut.", "nin_shortcut."),
        ):  # fmt: skip
            key = key.replace(new, old)
        attention = any(f"attn_1.{name}.weight" in key for name in ("q", "k", "v", "proj_out"))
        originals[key] = tensor[:, :, None, None].contiguous() if attention else tensor
    return originals


def prefixed(state, prefix):
    return {prefix + key: tensor for key, tensor in state.items()}


def encoder(model):
    """Return a text encoder's state under the keys of released files, whatever transformers' keys are."""
    state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    state.pop("encoder.embed_tokens.weight", None)
    if "embeddings.token_embedding.weight" in state:
        state = prefixed(state, "text_model.")
    return state


def write(folder: Path, **states) -> dict[str, Path]:
    """Save states as files in a folder; return their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for name, state in states.items():
        paths[name] = folder / f"{name}.safetensors"
        save_file(state, paths[name])
    return paths
