"""Names of modules in the original files of the families, and their conversion to diffusers' names.

A table maps an original module to the diffusers modules that its rows belong to, in order: the originals
keep query, key and value (and, in the single blocks of FLUX.1, the MLP's input) in one weight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

from .stored_weights import Stored

Names = Mapping[str, tuple[str, ...]]
"""Original module -> diffusers modules."""

_TIME = "time_text_embed.timestep_embedder.linear_"
_POOLED = "time_text_embed.text_embedder.linear_"
_GUIDANCE = "time_text_embed.guidance_embedder.linear_"
_IMAGE_QKV = ("to_q", "to_k", "to_v")
_TEXT_QKV = ("add_q_proj", "add_k_proj", "add_v_proj")

SWAPPED = "swapped:"
"""Prefix of a name whose shift and scale are swapped: in diffusers' last normalisation, scale is first."""


def flux_names(double: int, single: int) -> Names:
    """Return the table of FLUX.1, whose original is Black Forest Labs' code.

    Args:
        double, single: the numbers of blocks of each kind.
    """
    names: dict[str, tuple[str, ...]] = {
        "img_in": ("x_embedder",),
        "txt_in": ("context_embedder",),
        "time_in.in_layer": (f"{_TIME}1",),
        "time_in.out_layer": (f"{_TIME}2",),
        "vector_in.in_layer": (f"{_POOLED}1",),
        "vector_in.out_layer": (f"{_POOLED}2",),
        "guidance_in.in_layer": (f"{_GUIDANCE}1",),
        "guidance_in.out_layer": (f"{_GUIDANCE}2",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": (f"{SWAPPED}norm_out.linear",),
    }
    for i in range(double):
        old, new = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for side, norm, ff in (("img", "norm1", "ff"), ("txt", "norm1_context", "ff_context")):
            qkv = _IMAGE_QKV if side == "img" else _TEXT_QKV
            added = "" if side == "img" else "added_"
            out = "to_out.0" if side == "img" else "to_add_out"
            names |= {
                f"{old}.{side}_mod.lin": (f"{new}.{norm}.linear",),
                f"{old}.{side}_attn.qkv": tuple(f"{new}.attn.{name}" for name in qkv),
                f"{old}.{side}_attn.norm.query_norm": (f"{new}.attn.norm_{added}q",),
                f"{old}.{side}_attn.norm.key_norm": (f"{new}.attn.norm_{added}k",),
                f"{old}.{side}_attn.proj": (f"{new}.attn.{out}",),
                f"{old}.{side}_mlp.0": (f"{new}.{ff}.net.0.proj",),
                f"{old}.{side}_mlp.2": (f"{new}.{ff}.net.2",),
            }
    for i in range(single):
        old, new = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        names |= {
            f"{old}.linear1": (*(f"{new}.attn.{name}" for name in _IMAGE_QKV), f"{new}.proj_mlp"),
            f"{old}.linear2": (f"{new}.proj_out",),
            f"{old}.modulation.lin": (f"{new}.norm.linear",),
            f"{old}.norm.query_norm": (f"{new}.attn.norm_q",),
            f"{old}.norm.key_norm": (f"{new}.attn.norm_k",),
        }
    return names


def sd3_names(blocks: int) -> Names:
    """Return the table of SD3 and SD3.5, whose original is Stability AI's code."""
    names: dict[str, tuple[str, ...]] = {
        "pos_embed": ("pos_embed.pos_embed",),
        "x_embedder.proj": ("pos_embed.proj",),
        "t_embedder.mlp.0": (f"{_TIME}1",),
        "t_embedder.mlp.2": (f"{_TIME}2",),
        "y_embedder.mlp.0": (f"{_POOLED}1",),
        "y_embedder.mlp.2": (f"{_POOLED}2",),
        "context_embedder": ("context_embedder",),
        "final_layer.linear": ("proj_out",),
        "final_layer.adaLN_modulation.1": (f"{SWAPPED}norm_out.linear",),
    }
    for i in range(blocks):
        new = f"transformer_blocks.{i}"
        for side, norm, ff in (("x", "norm1", "ff"), ("context", "norm1_context", "ff_context")):
            old = f"joint_blocks.{i}.{side}_block"
            qkv = _IMAGE_QKV if side == "x" else _TEXT_QKV
            added = "" if side == "x" else "added_"
            out = "to_out.0" if side == "x" else "to_add_out"
            # The last block is the end of the text stream: its normalisation there is a last one, too.
            last = SWAPPED if side == "context" and i == blocks - 1 else ""
            names |= {
                f"{old}.adaLN_modulation.1": (f"{last}{new}.{norm}.linear",),
                f"{old}.attn.qkv": tuple(f"{new}.attn.{name}" for name in qkv),
                f"{old}.attn.ln_q": (f"{new}.attn.norm_{added}q",),
                f"{old}.attn.ln_k": (f"{new}.attn.norm_{added}k",),
                f"{old}.attn.proj": (f"{new}.attn.{out}",),
                f"{old}.mlp.fc1": (f"{new}.{ff}.net.0.proj",),
                f"{old}.mlp.fc2": (f"{new}.{ff}.net.2",),
            }
        old = f"joint_blocks.{i}.x_block.attn2"
        names |= {
            f"{old}.qkv": tuple(f"{new}.attn2.{name}" for name in _IMAGE_QKV),
            f"{old}.ln_q": (f"{new}.attn2.norm_q",),
            f"{old}.ln_k": (f"{new}.attn2.norm_k",),
            f"{old}.proj": (f"{new}.attn2.to_out.0",),
        }
    return names


def convert(
    keys: Iterable[str],
    read: Callable[[str], Tensor | Stored],
    names: Names,
    shapes: Mapping[str, torch.Size],
) -> dict[str, Tensor | Stored]:
    """Return the tensors of an original file under diffusers' names.

    Args:
        keys: the original names, without prefix.
        read: returns the tensor with a key; a plain one where the table swaps its halves.
        names: the family's table.
        shapes: of every tensor in the state of the diffusers module.

    Raises:
        KeyError: the table has no module for a tensor.
    """
    converted: dict[str, Tensor | Stored] = {}
    for key in keys:
        module, _, end = key.rpartition(".")
        if key in names:
            module, end = key, ""
        if module not in names:
            raise KeyError(key)
        suffix = {"": "", "scale": ".weight"}.get(end, f".{end}")
        tensor, modules = read(key), names[module]
        if modules[0].startswith(SWAPPED):
            assert isinstance(tensor, Tensor)
            shift, scale = tensor.chunk(2)
            converted[modules[0].removeprefix(SWAPPED) + suffix] = torch.cat([scale, shift])
            continue
        targets = [name + suffix for name in modules]
        rows = [shapes[target][0] for target in targets] if len(targets) > 1 else [len(tensor)]
        for target, part in zip(targets, tensor.split(rows), strict=True):
            converted[target] = part.contiguous()
    return converted
