"""Tiny preference models with random weights under the published names, and reference implementations.

The reference implementations use plain tensor operations; the networks have to agree with them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def _normal(*shape):
    return torch.randn(*shape) * 0.2


def _linear(weights, name, out, into):
    weights[f"{name}.weight"], weights[f"{name}.bias"] = _normal(out, into), _normal(out)


def _norm(weights, name, width):
    weights[f"{name}.weight"], weights[f"{name}.bias"] = 1 + _normal(width), _normal(width)


def open_clip(words: int, prefix: str = "") -> dict[str, Tensor]:
    """Return a CLIP for 32-pixel images under open_clip's names: vision 160 wide, text 128."""
    torch.manual_seed(0)
    w: dict[str, Tensor] = {
        "logit_scale": torch.tensor(3.0),
        "text_projection": _normal(128, 24),
        "token_embedding.weight": _normal(words, 128),
        "positional_embedding": _normal(20, 128),
        "visual.proj": _normal(160, 24),
        "visual.class_embedding": _normal(160),
        "visual.conv1.weight": _normal(160, 3, 8, 8),
        "visual.positional_embedding": _normal(17, 160),
    }
    for side, width in (("visual.", 160), ("", 128)):
        for i in range(2):
            block = f"{side}transformer.resblocks.{i}"
            _norm(w, f"{block}.ln_1", width)
            _norm(w, f"{block}.ln_2", width)
            w[f"{block}.attn.in_proj_weight"] = _normal(3 * width, width)
            w[f"{block}.attn.in_proj_bias"] = _normal(3 * width)
            _linear(w, f"{block}.attn.out_proj", width, width)
            _linear(w, f"{block}.mlp.c_fc", 2 * width, width)
            _linear(w, f"{block}.mlp.c_proj", width, 2 * width)
    for name, width in (("visual.ln_pre", 160), ("visual.ln_post", 160), ("ln_final", 128)):
        _norm(w, name, width)
    return {prefix + name: weight for name, weight in w.items()}


def open_clip_cosine(w: dict[str, Tensor], pixels: Tensor, ids: Tensor) -> Tensor:
    """Return the cosine of image and text as CLIP defines it, with two heads on each side."""

    def normed(name, x):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def blocks(side, x, mask):
        for i in range(2):
            b = f"{side}transformer.resblocks.{i}"
            y = normed(f"{b}.ln_1", x)
            joint = y @ w[f"{b}.attn.in_proj_weight"].T + w[f"{b}.attn.in_proj_bias"]
            y = attention(*joint.chunk(3, -1), heads=2, mask=mask)
            x = x + y @ w[f"{b}.attn.out_proj.weight"].T + w[f"{b}.attn.out_proj.bias"]
            y = normed(f"{b}.ln_2", x)
            y = F.gelu(y @ w[f"{b}.mlp.c_fc.weight"].T + w[f"{b}.mlp.c_fc.bias"])
            x = x + y @ w[f"{b}.mlp.c_proj.weight"].T + w[f"{b}.mlp.c_proj.bias"]
        return x

    x = F.conv2d(pixels, w["visual.conv1.weight"], stride=8).flatten(2).transpose(1, 2)
    first = w["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], 1) + w["visual.positional_embedding"]
    x = blocks("visual.", normed("visual.ln_pre", x), None)
    image = normed("visual.ln_post", x[:, 0]) @ w["visual.proj"]
    n = ids.shape[1]
    y = w["token_embedding.weight"][ids] + w["positional_embedding"][:n]
    later = torch.full((n, n), -math.inf).triu(1)
    y = normed("ln_final", blocks("", y, later))
    text = y[torch.arange(len(y)), ids.argmax(-1)] @ w["text_projection"]
    return F.cosine_similarity(image, text)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    weights = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = (weights if mask is None else weights + mask).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def image_reward(words: int) -> dict[str, Tensor]:
    """Return an ImageReward for 32-pixel images: vision and text 128 wide."""
    torch.manual_seed(1)
    eye, text = "blip.visual_encoder.", "blip.text_encoder."
    w: dict[str, Tensor] = {
        eye + "cls_token": _normal(1, 1, 128),
        eye + "pos_embed": _normal(1, 5, 128),
        text + "embeddings.position_ids": torch.arange(40)[None],
        text + "embeddings.word_embeddings.weight": _normal(words, 128),
        text + "embeddings.position_embeddings.weight": _normal(40, 128),
        "blip.vision_proj.weight": _normal(8, 128),  # in the published files, but unused
    }
    w[eye + "patch_embed.proj.weight"] = _normal(128, 3, 16, 16)
    w[eye + "patch_embed.proj.bias"] = _normal(128)
    _norm(w, eye + "norm", 128)
    _norm(w, text + "embeddings.LayerNorm", 128)
    for i in range(2):
        b = f"{eye}blocks.{i}"
        _norm(w, f"{b}.norm1", 128)
        _norm(w, f"{b}.norm2", 128)
        for part, out, into in (
            ("attn.qkv", 384, 128),
            ("attn.proj", 128, 128),
            ("mlp.fc1", 256, 128),
            ("mlp.fc2", 128, 256),
        ):
            _linear(w, f"{b}.{part}", out, into)
        b = f"{text}encoder.layer.{i}"
        for part in ("attention", "crossattention"):
            for name in ("query", "key", "value"):
                _linear(w, f"{b}.{part}.self.{name}", 128, 128)
            _linear(w, f"{b}.{part}.output.dense", 128, 128)
            _norm(w, f"{b}.{part}.output.LayerNorm", 128)
        _linear(w, f"{b}.intermediate.dense", 256, 128)
        _linear(w, f"{b}.output.dense", 128, 256)
        _norm(w, f"{b}.output.LayerNorm", 128)
    for index, (out, into) in zip((0, 2, 4), ((16, 128), (4, 16), (1, 4)), strict=True):
        _linear(w, f"mlp.layers.{index}", out, into)
    return w


def image_reward_score(w: dict[str, Tensor], pixels: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """Return the score as ImageReward defines it, with two heads on each side."""

    def normed(name, x, eps):
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)

    def linear(name, x):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    eye, text = "blip.visual_encoder.", "blip.text_encoder."
    proj = eye + "patch_embed.proj"
    x = F.conv2d(pixels, w[f"{proj}.weight"], w[f"{proj}.bias"], stride=16)
    x = x.flatten(2).transpose(1, 2)
    x = torch.cat([w[eye + "cls_token"].expand(len(x), -1, -1), x], 1) + w[eye + "pos_embed"]
    for i in range(2):
        b = f"{eye}blocks.{i}"
        joint = linear(f"{b}.attn.qkv", normed(f"{b}.norm1", x, 1e-6))
        x = x + linear(f"{b}.attn.proj", attention(*joint.chunk(3, -1), heads=2))
        inner = F.gelu(linear(f"{b}.mlp.fc1", normed(f"{b}.norm2", x, 1e-6)))
        x = x + linear(f"{b}.mlp.fc2", inner)
    vision = normed(eye + "norm", x, 1e-6)
    y = w[text + "embeddings.word_embeddings.weight"][ids]
    y = y + w[text + "embeddings.position_embeddings.weight"][: ids.shape[1]]
    y = normed(text + "embeddings.LayerNorm", y, 1e-12)
    hidden = torch.where(mask[:, None, None, :] > 0, 0.0, -math.inf)
    for i in range(2):
        b = f"{text}encoder.layer.{i}"
        for part, other, mask_bias in (
            ("attention", None, hidden),
            ("crossattention", vision, None),
        ):
            source = y if other is None else other
            q = linear(f"{b}.{part}.self.query", y)
            k, v = (linear(f"{b}.{part}.self.{name}", source) for name in ("key", "value"))
            new = linear(f"{b}.{part}.output.dense", attention(q, k, v, 2, mask_bias))
            y = normed(f"{b}.{part}.output.LayerNorm", y + new, 1e-12)
        inner = F.gelu(linear(f"{b}.intermediate.dense", y))
        y = normed(f"{b}.output.LayerNorm", y + linear(f"{b}.output.dense", inner), 1e-12)
    y = y[:, 0]
    for index in (0, 2, 4):
        y = linear(f"mlp.layers.{index}", y)
    return (y[:, 0] - 0.16717362830052426) / 1.0333394966054072
