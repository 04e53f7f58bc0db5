"""The networks of preference models, on transformers' CLIP and BLIP.

HPS, ImageReward and the aesthetic predictor were published for other libraries. Their weights are read as
safetensors under the published names and renamed here to those of transformers. Sizes follow from the
weights.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_CLIP_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLIP_BLOCK = {
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.qkv": "self_attn.qkv",
    "attn.proj": "self_attn.projection",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}


class CLIPScorer(nn.Module):
    """The cosine of image and text in CLIP's space, on one of three scales.

    Args:
        clip: a ``CLIPModel``.
        scale: "logit" multiplies by the model's own temperature; "percent" by 100, with 0 for negative
            values; "cosine" leaves it as it is.
    """

    def __init__(self, clip: nn.Module, scale: str) -> None:
        super().__init__()
        self.clip, self.scale = clip, scale

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Score images ``[n, 3, h, w]`` against texts ``[n, tokens]``; returns ``[n]``."""
        output: Any = self.clip(
            input_ids=input_ids, pixel_values=pixels, attention_mask=attention_mask
        )
        cosine = (output.image_embeds * output.text_embeds).sum(-1)  # both have length 1
        if self.scale == "logit":
            return cosine * self.clip.logit_scale.exp()  # type: ignore[operator]
        return 100 * cosine.clamp(min=0) if self.scale == "percent" else cosine


class AestheticScorer(nn.Module):
    """LAION's aesthetic predictor: a linear head on the normalised image embedding of CLIP."""

    def __init__(self, vision: nn.Module, projection: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.vision, self.projection, self.head = vision, projection, head

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Score images ``[n, 3, h, w]``, whatever the texts; returns ``[n]``."""
        features: Any = self.vision(pixel_values=pixels)
        embeddings = self.projection(features.pooler_output)
        return self.head(nn.functional.normalize(embeddings, dim=-1))[:, 0]


class ImageRewardScorer(nn.Module):
    """ImageReward (Xu et al., arXiv 2304.05977).

    BLIP's text encoder attends to the image, and a linear head scores its first token, shifted and scaled
    as published.
    """

    MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072

    def __init__(self, vision: nn.Module, text: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.vision, self.text, self.head = vision, text, head

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Score images ``[n, 3, h, w]`` against texts ``[n, tokens]``; returns ``[n]``."""
        image: Any = self.vision(pixel_values=pixels).last_hidden_state
        output: Any = self.text(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=image,
            encoder_attention_mask=torch.ones(image.shape[:2], device=image.device),
        )
        return (self.head(output.last_hidden_state[:, 0])[:, 0] - self.MEAN) / self.DEVIATION


def linear_head(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Return a stack of linear layers from weights named ``layers.<number>.weight``.

    The published stacks have only dropouts between them.

    Raises:
        ValueError: there are none that follow on each other down to one number.
    """
    parameters = {}
    for name, weight in weights.items():
        match = re.search(r"(?:^|\.)layers\.(\d+)\.(weight|bias)$", name)
        if match and weight.ndim == (2 if match[2] == "weight" else 1) and "blocks" not in name:
            parameters[int(match[1]), match[2]] = weight
    numbers = sorted({number for number, _ in parameters})
    layers = nn.Sequential()
    for number in numbers:
        weight = parameters[number, "weight"]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": parameters[number, "bias"]})
        layers.append(layer)
    shapes = [tuple(parameters[number, "weight"].shape) for number in numbers]
    chained = all(a[0] == b[1] for a, b in itertools.pairwise(shapes))
    if not shapes or shapes[-1][0] != 1 or not chained:
        raise ValueError(f"there is no head in it, only layers of {shapes}")
    return layers


def clip_from_open_clip(weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a ``CLIPModel`` from weights under open_clip's names, with or without a prefix.

    Attention heads of the vision model are 80 wide where that divides its width, as in ViT-H-14, else 64;
    those of the text model 64.

    Raises:
        KeyError, ValueError, RuntimeError: these are other weights.
    """
    from transformers import CLIPConfig, CLIPModel

    weights = _without_prefix_of(weights, "visual.conv1.weight")
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    tokens = weights["visual.positional_embedding"].shape[0]
    text_width = weights["token_embedding.weight"].shape[1]
    config = CLIPConfig(
        projection_dim=weights["text_projection"].shape[1],
        vision_config={
            "hidden_size": width,
            "intermediate_size": _rows(weights, "visual.transformer.resblocks.0.mlp.c_fc.weight"),
            "num_hidden_layers": _count(weights, "visual.transformer.resblocks."),
            "num_attention_heads": max(1, width // (80 if width % 80 == 0 else 64)),
            "patch_size": patch,
            "image_size": round((tokens - 1) ** 0.5) * patch,
            "hidden_act": "gelu",
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": _rows(weights, "transformer.resblocks.0.mlp.c_fc.weight"),
            "num_hidden_layers": _count(weights, "transformer.resblocks."),
            "num_attention_heads": max(1, text_width // 64),
            "vocab_size": _rows(weights, "token_embedding.weight"),
            "max_position_embeddings": _rows(weights, "positional_embedding"),
            "hidden_act": "gelu",
            # 2 tells transformers that a text ends at its token with the largest number.
            "eos_token_id": 2,
        },
    )
    renamed = {
        "logit_scale": weights["logit_scale"],
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
        "text_projection.weight": weights["text_projection"].T.contiguous(),
    }
    _rename_clip_blocks(
        renamed, weights, "visual.transformer.resblocks.", "vision_model.encoder.layers."
    )
    _rename_clip_blocks(renamed, weights, "transformer.resblocks.", "text_model.encoder.layers.")
    for old, new in (
        ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
        ("visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight"),
        ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        ("visual.ln_pre.weight", "vision_model.pre_layrnorm.weight"),
        ("visual.ln_pre.bias", "vision_model.pre_layrnorm.bias"),
        ("visual.ln_post.weight", "vision_model.post_layernorm.weight"),
        ("visual.ln_post.bias", "vision_model.post_layernorm.bias"),
        ("token_embedding.weight", "text_model.embeddings.token_embedding.weight"),
        ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        ("ln_final.weight", "text_model.final_layer_norm.weight"),
        ("ln_final.bias", "text_model.final_layer_norm.bias"),
    ):
        renamed[new] = weights[old]
    return _load(lambda: CLIPModel(config), renamed)


def _rename_clip_blocks(
    renamed: dict[str, Tensor], weights: Mapping[str, Tensor], old: str, new: str
) -> None:
    for block in range(_count(weights, old)):
        for kind in ("weight", "bias"):
            for old_part, new_part in _CLIP_BLOCK.items():
                weight = weights[f"{old}{block}.{old_part}.{kind}"]
                renamed[f"{new}{block}.{new_part}.{kind}"] = weight
            joint = weights[f"{old}{block}.attn.in_proj_{kind}"].chunk(3)
            for letter, part in zip("qkv", joint, strict=True):
                renamed[f"{new}{block}.self_attn.{letter}_proj.{kind}"] = part


def image_reward(weights: Mapping[str, Tensor]) -> ImageRewardScorer:
    """Return ImageReward from its published weights (``blip.visual_encoder...``, ``mlp.layers...``).

    Raises:
        KeyError, ValueError, RuntimeError: these are other weights.
    """
    from transformers import (
        BlipTextConfig,
        BlipTextModel,
        BlipVisionConfig,
        BlipVisionModel,
    )

    weights = _without_prefix_of(weights, "blip.visual_encoder.cls_token")
    vision = _below(weights, "blip.visual_encoder.")
    text = _below(weights, "blip.text_encoder.")
    width, _, patch, _ = vision["patch_embed.proj.weight"].shape
    side = round((vision["pos_embed"].shape[1] - 1) ** 0.5) * patch
    vision_config = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=_rows(vision, "blocks.0.mlp.fc1.weight"),
        num_hidden_layers=_count(vision, "blocks."),
        num_attention_heads=max(1, width // 64),
        image_size=side,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    renamed = {
        "embeddings.class_embedding": vision["cls_token"],
        "embeddings.position_embedding": vision["pos_embed"],
    }
    for kind in ("weight", "bias"):
        renamed[f"embeddings.patch_embedding.{kind}"] = vision[f"patch_embed.proj.{kind}"]
        renamed[f"post_layernorm.{kind}"] = vision[f"norm.{kind}"]
        for block in range(_count(vision, "blocks.")):
            for old, new in _BLIP_BLOCK.items():
                weight = vision[f"blocks.{block}.{old}.{kind}"]
                renamed[f"encoder.layers.{block}.{new}.{kind}"] = weight
    hidden = text["embeddings.word_embeddings.weight"].shape[1]
    text_config = BlipTextConfig(
        vocab_size=_rows(text, "embeddings.word_embeddings.weight"),
        hidden_size=hidden,
        encoder_hidden_size=width,
        intermediate_size=_rows(text, "encoder.layer.0.intermediate.dense.weight"),
        num_hidden_layers=_count(text, "encoder.layer."),
        num_attention_heads=max(1, hidden // 64),
        max_position_embeddings=_rows(text, "embeddings.position_embeddings.weight"),
        is_decoder=True,  # only decoders attend to an image
        use_cache=False,
    )
    not_used = ("pooler", "embeddings.position_ids")
    text = {name: weight for name, weight in text.items() if not name.startswith(not_used)}
    return ImageRewardScorer(
        _load(lambda: BlipVisionModel(vision_config), renamed),
        _load(lambda: BlipTextModel(text_config, add_pooling_layer=False), text),
        linear_head(_below(weights, "mlp.")),
    )


def _without_prefix_of(weights: Mapping[str, Tensor], known: str) -> dict[str, Tensor]:
    """Return the weights without whatever stands before a known name."""
    prefixes = [name[: -len(known)] for name in weights if name.endswith(known)]
    if not prefixes:
        raise ValueError(f"there is no {known} in it")
    return _below(weights, min(prefixes, key=len))


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the weights whose names begin with a prefix, without it, in float32."""
    return {
        name[len(prefix) :]: weight.float()
        for name, weight in weights.items()
        if name.startswith(prefix)
    }


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    """Return the number of blocks, from the largest number after a prefix."""
    rest = (name[len(prefix) :] for name in weights if name.startswith(prefix))
    return 1 + max(int(name.split(".", 1)[0]) for name in rest)


def _rows(weights: Mapping[str, Tensor], name: str) -> int:
    return weights[name].shape[0]


def _load(make: Callable[[], nn.Module], weights: Mapping[str, Tensor]) -> nn.Module:
    """Return a module with these weights.

    It is made on the meta device, because drawing random weights takes longer than reading the real ones.

    Raises:
        ValueError: weights are missing or left over.
    """
    with torch.device("meta"):
        module = make()
    missing, unknown = module.load_state_dict(dict(weights), strict=False, assign=True)
    missing = [name for name in missing if not name.endswith("position_ids")]
    if missing or unknown:
        raise ValueError(f"weights do not fit: without {missing[:3]}, unknown {unknown[:3]}")
    for name, buffer in list(module.named_buffers()):
        owner, _, last = name.rpartition(".")
        if last != "position_ids":
            raise ValueError(f"weights do not fit: without {name}")
        positions = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        module.get_submodule(owner).register_buffer(last, positions, persistent=False)
    return module
