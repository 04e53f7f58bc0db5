"""The networks of preference models, on transformers' CLIP and BLIP.

HPS, ImageReward and the aesthetic predictor were published for other libraries. Their weights are
taken as safetensors under the published names and brought under transformers' names here; sizes are
read off the weights.
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
    """The cosine of picture and text in CLIP's space, on one of three scales.

    Args:
        clip: a ``CLIPModel``.
        scale: "logit": times the model's own temperature; "percent": times 100, not below 0;
            "cosine".
    """

    def __init__(self, clip: nn.Module, scale: str) -> None:
        super().__init__()
        self.clip, self.scale = clip, scale

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``[n, 3, h, w]`` and ``[n, tokens]`` to ``[n]``."""
        found: Any = self.clip(
            input_ids=input_ids, pixel_values=pixels, attention_mask=attention_mask
        )
        cosine = (found.image_embeds * found.text_embeds).sum(-1)  # both have length 1
        if self.scale == "logit":
            return cosine * self.clip.logit_scale.exp()  # type: ignore[operator]
        return 100 * cosine.clamp(min=0) if self.scale == "percent" else cosine


class AestheticScorer(nn.Module):
    """LAION's aesthetic predictor: a linear head on the direction of CLIP's picture."""

    def __init__(self, vision: nn.Module, projection: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.vision, self.projection, self.head = vision, projection, head

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``[n, 3, h, w]`` to ``[n]``; the text does not matter."""
        seen: Any = self.vision(pixel_values=pixels)
        embeds = self.projection(seen.pooler_output)
        return self.head(nn.functional.normalize(embeds, dim=-1))[:, 0]


class ImageRewardScorer(nn.Module):
    """ImageReward (Xu et al., arXiv 2304.05977): BLIP reads the text with an eye on the picture, and a
    linear head scores its first token; shifted and scaled as published."""

    MEAN, DEVIATION = 0.16717362830052426, 1.0333394966054072

    def __init__(self, vision: nn.Module, text: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.vision, self.text, self.head = vision, text, head

    def forward(self, pixels: Tensor, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """``[n, 3, h, w]`` and ``[n, tokens]`` to ``[n]``."""
        seen: Any = self.vision(pixel_values=pixels).last_hidden_state
        read: Any = self.text(
            input_ids=input_ids,
            attention_mask=attention_mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:2], device=seen.device),
        )
        return (self.head(read.last_hidden_state[:, 0])[:, 0] - self.MEAN) / self.DEVIATION


def linear_head(weights: Mapping[str, Tensor]) -> nn.Sequential:
    """Linear layers one after the other, from weights named ``layers.<place>.weight``; between them
    were only dropouts.

    Raises:
        ValueError: there are none that follow on each other down to one number.
    """
    found = {}
    for name, weight in weights.items():
        match = re.search(r"(?:^|\.)layers\.(\d+)\.(weight|bias)$", name)
        if match and weight.ndim == (2 if match[2] == "weight" else 1) and "blocks" not in name:
            found[int(match[1]), match[2]] = weight
    places = sorted({place for place, _ in found})
    layers = nn.Sequential()
    for place in places:
        weight = found[place, "weight"]
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.load_state_dict({"weight": weight, "bias": found[place, "bias"]})
        layers.append(layer)
    shapes = [tuple(found[place, "weight"].shape) for place in places]
    follow = all(a[0] == b[1] for a, b in itertools.pairwise(shapes))
    if not shapes or shapes[-1][0] != 1 or not follow:
        raise ValueError(f"there is no head in it, only layers of {shapes}")
    return layers


def clip_from_open_clip(weights: Mapping[str, Tensor]) -> nn.Module:
    """A ``CLIPModel`` from weights under open_clip's names, with or without a prefix.

    Heads of the picture's side are 80 wide where that divides its width, as in ViT-H-14, else 64;
    of the text's side 64.
    """
    from transformers import CLIPConfig, CLIPModel

    weights = _from(weights, "visual.conv1.weight")
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
            # The last token of a text is the one with the largest number; 2 says so to transformers.
            "eos_token_id": 2,
        },
    )
    named = {
        "logit_scale": weights["logit_scale"],
        "visual_projection.weight": weights["visual.proj"].T.contiguous(),
        "text_projection.weight": weights["text_projection"].T.contiguous(),
    }
    _clip_blocks(named, weights, "visual.transformer.resblocks.", "vision_model.encoder.layers.")
    _clip_blocks(named, weights, "transformer.resblocks.", "text_model.encoder.layers.")
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
        named[new] = weights[old]
    return _filled(lambda: CLIPModel(config), named)


def _clip_blocks(
    named: dict[str, Tensor], weights: Mapping[str, Tensor], old: str, new: str
) -> None:
    for place in range(_count(weights, old)):
        for kind in ("weight", "bias"):
            for part, renamed in _CLIP_BLOCK.items():
                named[f"{new}{place}.{renamed}.{kind}"] = weights[f"{old}{place}.{part}.{kind}"]
            joint = weights[f"{old}{place}.attn.in_proj_{kind}"].chunk(3)
            for letter, part in zip("qkv", joint, strict=True):
                named[f"{new}{place}.self_attn.{letter}_proj.{kind}"] = part


def image_reward(weights: Mapping[str, Tensor]) -> ImageRewardScorer:
    """ImageReward from its published weights (``blip.visual_encoder...``, ``mlp.layers...``)."""
    from transformers import (
        BlipTextConfig,
        BlipTextModel,
        BlipVisionConfig,
        BlipVisionModel,
    )

    weights = _from(weights, "blip.visual_encoder.cls_token")
    eye = _below(weights, "blip.visual_encoder.")
    reader = _below(weights, "blip.text_encoder.")
    width, _, patch, _ = eye["patch_embed.proj.weight"].shape
    side = round((eye["pos_embed"].shape[1] - 1) ** 0.5) * patch
    vision = BlipVisionConfig(
        hidden_size=width,
        intermediate_size=_rows(eye, "blocks.0.mlp.fc1.weight"),
        num_hidden_layers=_count(eye, "blocks."),
        num_attention_heads=max(1, width // 64),
        image_size=side,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )
    named = {
        "embeddings.class_embedding": eye["cls_token"],
        "embeddings.position_embedding": eye["pos_embed"],
    }
    for kind in ("weight", "bias"):
        named[f"embeddings.patch_embedding.{kind}"] = eye[f"patch_embed.proj.{kind}"]
        named[f"post_layernorm.{kind}"] = eye[f"norm.{kind}"]
        for place in range(_count(eye, "blocks.")):
            for old, new in _BLIP_BLOCK.items():
                named[f"encoder.layers.{place}.{new}.{kind}"] = eye[f"blocks.{place}.{old}.{kind}"]
    hidden = reader["embeddings.word_embeddings.weight"].shape[1]
    text = BlipTextConfig(
        vocab_size=_rows(reader, "embeddings.word_embeddings.weight"),
        hidden_size=hidden,
        encoder_hidden_size=width,
        intermediate_size=_rows(reader, "encoder.layer.0.intermediate.dense.weight"),
        num_hidden_layers=_count(reader, "encoder.layer."),
        num_attention_heads=max(1, hidden // 64),
        max_position_embeddings=_rows(reader, "embeddings.position_embeddings.weight"),
        is_decoder=True,  # which is what gives it an eye on the picture
        use_cache=False,
    )
    spare = "embeddings.position_ids"  # no weight, and not in every file
    read = {
        name: weight for name, weight in reader.items() if not name.startswith(("pooler", spare))
    }
    head = linear_head(_below(weights, "mlp."))
    return ImageRewardScorer(
        _filled(lambda: BlipVisionModel(vision), named),
        _filled(lambda: BlipTextModel(text, add_pooling_layer=False), read),
        head,
    )


def _from(weights: Mapping[str, Tensor], known: str) -> dict[str, Tensor]:
    """The weights without the prefix that stands before a known name."""
    prefixes = [name[: -len(known)] for name in weights if name.endswith(known)]
    if not prefixes:
        raise ValueError(f"there is no {known} in it")
    return _below(weights, min(prefixes, key=len))


def _below(weights: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    found = {name[len(prefix) :]: w for name, w in weights.items() if name.startswith(prefix)}
    return {name: weight.float() for name, weight in found.items()}


def _count(weights: Mapping[str, Tensor], prefix: str) -> int:
    rest = (name[len(prefix) :] for name in weights if name.startswith(prefix))
    return 1 + max(int(name.split(".", 1)[0]) for name in rest)


def _rows(weights: Mapping[str, Tensor], name: str) -> int:
    return weights[name].shape[0]


def _filled(make: Callable[[], nn.Module], named: Mapping[str, Tensor]) -> nn.Module:
    """A module with these weights; none of its own may be left as it was made.

    It is made without memory of its own: the random weights that it would begin with take longer than
    to read the real ones.
    """
    with torch.device("meta"):
        module = make()
    missing, unknown = module.load_state_dict(dict(named), strict=False, assign=True)
    lost = [name for name in missing if not name.endswith("position_ids")]
    if lost or unknown:
        raise ValueError(f"weights do not fit: without {lost[:3]}, unknown {unknown[:3]}")
    for name, buffer in list(module.named_buffers()):
        owner, _, last = name.rpartition(".")
        if last != "position_ids":
            raise ValueError(f"weights do not fit: without {name}")
        places = torch.arange(buffer.shape[-1]).expand(buffer.shape)
        module.get_submodule(owner).register_buffer(last, places, persistent=False)
    return module
