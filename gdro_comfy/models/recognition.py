"""What a model file contains, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from .families import CLIP_G, CLIP_L, FLUX, SD3, T5, TRANSFORMER, VAE, Family

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes of a file's tensors by name."""

_TEXT_PARTS = (CLIP_L, CLIP_G, T5)
LORA, CHECKPOINT, OTHER = "lora", "checkpoint", "other"
"""Kinds of files besides those of single parts: a LoRA, several parts, what the engine cannot use."""


@dataclass(frozen=True)
class Part:
    """One model in a file.

    Args:
        kind: TRANSFORMER, VAE, CLIP_L, CLIP_G, T5 or OTHER.
        title: what it is, in words.
        prefix: of its tensors' names in the file.
        family: the family of a TRANSFORMER.
        layout: whose names the tensors have: "original" (the model's makers) or "diffusers".
    """

    kind: str
    title: str
    prefix: str = ""
    family: Family | None = None
    layout: str = "original"


def recognise(shapes: Shapes) -> tuple[str, str, tuple[Part, ...]]:
    """Return the kind of a file, what it is in words, and its parts."""
    lora = _lora(shapes)
    if lora is not None:
        return LORA, lora, ()
    parts = [part for find in (_transformer, _vae, _clip, _t5) for part in find(shapes)]
    foreign = _foreign(shapes)
    if foreign.endswith("vision encoder") and any(part.kind in _TEXT_PARTS for part in parts):
        foreign = ""  # a whole CLIP, of which the text part is used
    if not parts or (foreign and not any(part.kind == TRANSFORMER for part in parts)):
        return OTHER, foreign or "an unknown model", ()
    if len(parts) == 1:
        return parts[0].kind, parts[0].title, tuple(parts)
    others = ", ".join(part.title for part in parts[1:])
    return CHECKPOINT, f"a checkpoint with {parts[0].title}, {others}", tuple(parts)


def _lora(shapes: Shapes) -> str | None:
    """Return the title of a LoRA; None for any other file."""
    marks = (".lora_A.", ".lora_down.", ".lora_up.", ".lora_B.", ".hada_w1_a", ".lokr_w1")
    names = [name for name in shapes if any(mark in name for mark in marks)]
    return lora_title(names) if names else None


# The first pattern that is found in the names of the layers, with dots or underscores, decides.
_LORAS = (
    (r"down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block",
     "a LoRA for Stable Diffusion 1, 2 or XL"),
    (r"\.(img|txt)_attn_(qkv|proj)|(img_mod|txt_mod|modulation)[._]linear|(img|txt)_mlp[._]fc",
     "a LoRA for HunyuanVideo"),
    (r"to_qkv_mlp_proj|double_stream_modulation|single_stream_modulation", "a LoRA for FLUX.2"),
    (r"distilled_guidance_layer", "a LoRA for Chroma"),
    (r"transformer_blocks[._]\d+[._](img|txt)_(mod|mlp)[._]", "a LoRA for Qwen-Image"),
    (r"(^|[._])layers[._]\d+[._](attention|feed_forward|adaLN)|noise_refiner|context_refiner",
     "a LoRA for Lumina or Z-Image"),
    (r"single_transformer_blocks|single_blocks|double_blocks", f"a LoRA for {FLUX.title}"),
    (r"joint_blocks|transformer_blocks[._]\d+[._]attn2[._]", f"a LoRA for {SD3.title}"),
    (r"(^|[._])blocks[._]\d+[._](self_attn|cross_attn)", "a LoRA for Wan"),
)  # fmt: skip


def lora_title(names: Iterable[str]) -> str:
    """Return which model a LoRA with these layers is for, in words; "a LoRA" if they do not tell."""
    joined = "\n".join(names)
    return next((title for mark, title in _LORAS if re.search(mark, joined, re.M)), "a LoRA")


# Models whose LoRAs share their names and shapes with those of a known family.
_OTHER_BASES = (
    (r"kontext", "a LoRA for FLUX.1 Kontext, which edits pictures"),
    (r"(^|[^a-z])chroma([^a-z]|$)", "a LoRA for Chroma"),
    (r"flux[._-]?2|klein", "a LoRA for FLUX.2"),
    (r"flux.*(fill|depth|canny|redux)", "a LoRA for a FLUX.1 that takes pictures (Fill, Depth, Canny)"),
)  # fmt: skip


def other_base(words: str) -> str:
    """Return the title of a LoRA whose header names a base that is not known here; otherwise empty."""
    words = words.lower()
    return next((title for pattern, title in _OTHER_BASES if re.search(pattern, words)), "")


def _prefixes(shapes: Shapes, suffix: str) -> list[str]:
    """Return what comes before ``suffix`` in the names that end with it."""
    return [name.removesuffix(suffix) for name in shapes if name.endswith(suffix)]


# Names that, together, only this transformer has; its family and layout.
_TRANSFORMERS = (
    (("double_blocks.0.img_attn.qkv.weight", "img_in.weight"), FLUX, "original"),
    (("single_transformer_blocks.0.proj_mlp.weight", "x_embedder.weight"), FLUX, "diffusers"),
    (("joint_blocks.0.x_block.attn.qkv.weight", "x_embedder.proj.weight"), SD3, "original"),
    (("pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"), SD3, "diffusers"),
)
# Names of other transformers that share the names above.
_LOOKALIKES = (
    "double_stream_modulation_img", "distilled_guidance_layer", "adaln_single", "controlnet_",
    "pos_embed_input.", "zero_convs", "bitsandbytes__", ".qweight",
)  # fmt: skip
_TRANSFORMER_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "transformer.")


def _transformer(shapes: Shapes) -> list[Part]:
    if any(mark in name for name in shapes for mark in _LOOKALIKES):
        return []
    for marks, family, layout in _TRANSFORMERS:
        for prefix in _TRANSFORMER_PREFIXES:
            if not all(prefix + mark in shapes for mark in marks):
                continue
            if family is FLUX:
                name = "img_in.weight" if layout == "original" else "x_embedder.weight"
                if shapes[prefix + name][1] != 64:
                    variant = (
                        f"a variant of {family.title} that takes pictures (Fill, Depth, Canny)"
                    )
                    return [Part(OTHER, variant, prefix)]
            return [Part(TRANSFORMER, f"a {family.title} transformer", prefix, family, layout)]
    return []


_VAES = {4: "Stable Diffusion 1, 2 and XL", 32: "FLUX.2", 128: "FLUX.2"}
"""Models by the channels of their latents."""


def _vae(shapes: Shapes) -> list[Part]:
    for mark, layout in (
        ("decoder.up.0.block.0.conv1.weight", "original"),
        ("decoder.up_blocks.0.resnets.0.conv1.weight", "diffusers"),
    ):
        for prefix in _prefixes(shapes, mark):
            shape = shapes.get(f"{prefix}decoder.conv_in.weight", ())
            if len(shape) != 4:
                return [Part(OTHER, "a VAE of a video model", prefix)]
            if shape[1] != 16:
                others = _VAES.get(shape[1])
                title = f"a VAE of {shape[1]} channels" + (f", as of {others}" if others else "")
                return [Part(OTHER, title, prefix)]
            if f"{prefix}encoder.conv_in.weight" not in shapes:
                return [Part(OTHER, "the decoder of a VAE, without its encoder", prefix)]
            title = f"a VAE of 16 channels ({SD3.title}, {FLUX.title})"
            return [Part(VAE, title, prefix, layout=layout)]
    return []


_CLIPS = {768: (CLIP_L, "a CLIP-L text encoder"), 1280: (CLIP_G, "a CLIP-G text encoder")}
"""Kind and title of a CLIP, by the width of its embeddings."""


def _clip(shapes: Shapes) -> list[Part]:
    parts = []
    mark, stem = "embeddings.token_embedding.weight", "text_model."
    for prefix in _prefixes(shapes, mark):
        if len(shapes[prefix + mark]) != 2:
            continue
        layout = "original" if prefix.endswith(stem) else "bare"
        width = shapes[prefix + mark][1]
        kind, title = _CLIPS.get(width, (OTHER, f"a CLIP text encoder of width {width}"))
        if f"{prefix}head.weight" in shapes:
            kind, title = OTHER, "a SigLIP text encoder"
        parts.append(Part(kind, title, prefix.removesuffix(stem), layout=layout))
    return parts


def _t5(shapes: Shapes) -> list[Part]:
    for prefix in _prefixes(shapes, "encoder.block.0.layer.0.SelfAttention.q.weight"):
        words = shapes.get(f"{prefix}shared.weight") or shapes.get(
            f"{prefix}encoder.embed_tokens.weight", ()
        )
        tokens, width = (*words, 0, 0)[:2]
        if tokens > 100_000:
            return [Part(OTHER, "a UMT5 text encoder, as of Wan", prefix)]
        gated = f"{prefix}encoder.block.0.layer.1.DenseReluDense.wi_0.weight" in shapes
        if width != 4096 or not gated:
            return [Part(OTHER, f"a T5 text encoder of width {width}", prefix)]
        return [Part(T5, "a T5-XXL text encoder", prefix)]
    return []


# The first pattern that is found in the names decides.
_FOREIGN = (
    (r"controlnet_blocks|control_model|zero_convs|controlnet_|pos_embed_input\.", "a ControlNet"),
    (r"bitsandbytes__(nf4|fp4)", "a model quantized to nf4 or fp4 by bitsandbytes"),
    (r"\.qweight$", "a model quantized for Nunchaku (SVDQuant) or by another tool"),
    (r"ip_adapter", "an IP-Adapter"),
    (r"(^|\.)redux_(up|down)\.", "FLUX.1 Redux, which reads pictures"),
    (r"(^|\.)pulid", "a PuLID"),
    (
        r"caption_projection[\s\S]*double_stream_blocks|double_stream_blocks",
        "a HiDream transformer",
    ),
    (
        r"resblocks\.\d+\.attn\.in_proj_weight",
        "a CLIP in OpenCLIP's layout (choose the one in that of HF)",
    ),
    (r"(^|\.)(taesd|decoder\.layers\.\d+\.conv)", "a TAESD, the small VAE for previews"),
    (r"double_stream_modulation_img", "a FLUX.2 transformer"),
    (r"distilled_guidance_layer", "a Chroma transformer"),
    (r"img_attn_qkv|txt_attn_qkv", "a HunyuanVideo transformer"),
    (r"blocks\.0\.self_attn\.q\.", "a Wan transformer"),
    (r"transformer_blocks\.0\.img_mod\.", "a Qwen-Image transformer"),
    (r"noise_refiner\.", "a Lumina or Z-Image transformer"),
    (r"adaln_single", "a PixArt or LTX transformer"),
    (r"joint_transformer_blocks|double_layers\.0\.attn", "an AuraFlow transformer"),
    (r"conditioner\.embedders|label_emb\.0\.0|add_embedding\.linear_1", "an SDXL model"),
    (r"input_blocks\.\d|down_blocks\.\d.*attentions", "a Stable Diffusion 1, 2 or XL model"),
    (r"blocks\.0\.attn1\.to_q\.[\s\S]*condition_embedder|patch_embedding\.", "a Wan transformer"),
    (r"vision_model\.|visual_projection", "a vision encoder"),
    (r"model\.layers\.0\.|language_model\.", "a language model"),
)


def _foreign(shapes: Shapes) -> str:
    """Return the title of a model that the engine cannot use; empty if none is recognised."""
    names = "\n".join(shapes)
    return next((title for pattern, title in _FOREIGN if re.search(pattern, names, re.M)), "")
