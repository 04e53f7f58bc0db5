"""What a model file is, from the names, shapes and dtypes in its header: its weights are never read.

A safetensors file starts with eight bytes (the header's length) and a header in JSON, which is all that
is needed to say what 20 GB are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .families import CLIP_G, CLIP_L, FLUX, SD3, T5, TRANSFORMER, VAE, Family

LORA = "lora"

_LONGEST_HEADER = 100 << 20
_DTYPES = {
    "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "U8": "packed bytes", "I8": "int8",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One model in a file.

    Args:
        kind: what it is: TRANSFORMER, VAE, CLIP_L, CLIP_G or T5.
        title: in words.
        prefix: of its keys in the file.
        family: of a transformer that the engine knows.
        layout: "original" (of its makers) or "diffusers".
    """

    kind: str
    title: str
    prefix: str = ""
    family: Family | None = None
    layout: str = "original"


@dataclass(frozen=True)
class ModelFile:
    """A safetensors file: its tensors' shapes and dtypes, and the parts that were recognised.

    ``title`` says in words what it is; ``kind`` is the kind of its only part, LORA, "checkpoint" for
    several parts, or "other" for what the engine cannot use.
    """

    path: Path
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    kind: str
    title: str
    parts: tuple[Part, ...]

    def part(self, kind: str) -> Part | None:
        return next((part for part in self.parts if part.kind == kind), None)

    def shape(self, part: Part, name: str) -> tuple[int, ...]:
        """The shape of a part's tensor; an empty one where it has no such tensor."""
        return self.shapes.get(part.prefix + name, ())

    def count(self, part: Part, pattern: str) -> int:
        """How many numbered modules a part has: ``pattern`` has a ``{}`` for the number."""
        number = 0
        start = tuple(part.prefix + pattern.format(i) for i in range(256))
        while any(name.startswith(start[number]) for name in self.shapes):
            number += 1
        return number

    def dtype(self, part: Part) -> str:
        """The dtype of most of a part's weights."""
        seen: dict[str, int] = {}
        for name, dtype in self.dtypes.items():
            if name.startswith(part.prefix):
                seen[dtype] = seen.get(dtype, 0) + _numbers(self.shapes[name])
        return max(seen, key=lambda dtype: seen[dtype])

    def describe(self) -> str:
        """For messages: "FLUX.1 transformer (fp8, 11.9 GB)"."""
        size = self.path.stat().st_size / 1e9
        dtype = f"{self.dtype(self.parts[0])}, " if len(self.parts) == 1 else ""
        return f"{self.title} ({dtype}{size:.1f} GB)" if size >= 0.05 else self.title


def _numbers(shape: tuple[int, ...]) -> int:
    total = 1
    for side in shape:
        total *= side
    return total


def read(path: Path, input_name: str) -> ModelFile:
    """Look at a file's header.

    Raises:
        InputError: it is no safetensors file, or a part of one.
    """
    header = _header(path, input_name)
    header.pop("__metadata__", None)
    try:
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in header.items()}
        codes = {name: str(entry["dtype"]) for name, entry in header.items()}
        dtypes = {name: _DTYPES.get(code, code.lower()) for name, code in codes.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, input_name) from error
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    size = path.stat().st_size
    if start + end > size:
        raise InputError(
            input_name,
            f"{path.name} is incomplete: {size:,} bytes of {start + end:,}",
            "Download or copy the file again.",
        )
    kind, title, parts = _recognise(shapes)
    return ModelFile(path, shapes, dtypes, kind, title, parts)


def _header(path: Path, input_name: str) -> dict[str, Any]:
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            fits = 2 <= length <= min(size - 8, _LONGEST_HEADER)
            text = file.read(length) if fits else b""
    except OSError as error:
        raise InputError(
            input_name, f"{path.name} cannot be read ({error.strerror})", "Choose another file."
        ) from error
    if first[:4] == b"GGUF":
        raise InputError(
            input_name,
            f"{path.name} is a GGUF file, which is made for inference",
            "Choose the model's safetensors file, and nf4 as quantization: it takes as little memory.",
        )
    if first[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise InputError(
            input_name,
            f"{path.name} is a pickle, which can run any code when it is opened",
            "Choose the model's safetensors file.",
        )
    if not text:
        raise _damaged(path, input_name)
    try:
        header = json.loads(text)
    except ValueError as error:
        raise _damaged(path, input_name) from error
    if not isinstance(header, dict):
        raise _damaged(path, input_name)
    return header


def _damaged(path: Path, input_name: str) -> InputError:
    return InputError(
        input_name,
        f"{path.name} is no safetensors file, or only a part of one",
        "Choose a .safetensors file; if it is one, download or copy it again.",
    )


_Shapes = Mapping[str, tuple[int, ...]]


def _recognise(shapes: _Shapes) -> tuple[str, str, tuple[Part, ...]]:
    """Kind, words and parts."""
    lora = _lora(shapes)
    if lora is not None:
        return LORA, lora, ()
    parts = [part for find in (_transformer, _vae, _clip, _t5) for part in find(shapes)]
    stranger = _stranger(shapes)
    if not parts or (stranger and not any(part.kind == TRANSFORMER for part in parts)):
        return "other", stranger or "a model that is not known here", ()
    if len(parts) == 1:
        return parts[0].kind, parts[0].title, tuple(parts)
    others = ", ".join(part.title for part in parts[1:])
    return "checkpoint", f"a checkpoint with {parts[0].title}, {others}", tuple(parts)


def _lora(shapes: _Shapes) -> str | None:
    marks = (".lora_A.", ".lora_down.", ".lora_up.", ".lora_B.", ".hada_w1_a", ".lokr_w1")
    names = [name for name in shapes if any(mark in name for mark in marks)]
    return lora_title(names) if names else None


_LORAS = (
    # Looked for in the names of its layers, with dots or underscores, in this order.
    (r"down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block",
     "a LoRA for Stable Diffusion 1, 2 or XL"),
    (r"single_transformer_blocks|single_blocks|double_blocks", f"a LoRA for {FLUX.title}"),
    (r"joint_blocks|transformer_blocks[._]\d+[._]attn2[._]", f"a LoRA for {SD3.title}"),
    (r"(^|[._])blocks[._]\d+[._](self_attn|cross_attn)", "a LoRA for Wan"),
)  # fmt: skip


def lora_title(names: Iterable[str]) -> str:
    """What a LoRA with these layers is for, in words; "a LoRA" where they do not say."""
    joined = "\n".join(names)
    return next((title for mark, title in _LORAS if re.search(mark, joined, re.M)), "a LoRA")


def _prefixes(shapes: _Shapes, end: str) -> list[str]:
    """What stands before ``end`` in the names that close with it."""
    return [name[: -len(end)] for name in shapes if name.endswith(end)]


_TRANSFORMERS = (
    # Names that only this one has, together; family and layout.
    (("double_blocks.0.img_attn.qkv.weight", "img_in.weight"), FLUX, "original"),
    (("single_transformer_blocks.0.proj_mlp.weight", "x_embedder.weight"), FLUX, "diffusers"),
    (("joint_blocks.0.x_block.attn.qkv.weight", "x_embedder.proj.weight"), SD3, "original"),
    (("pos_embed.proj.weight", "transformer_blocks.0.attn.add_q_proj.weight"), SD3, "diffusers"),
)
_NOT_THESE = ("double_stream_modulation_img", "distilled_guidance_layer", "adaln_single")
_TRANSFORMER_PREFIXES = ("", "model.diffusion_model.", "diffusion_model.", "transformer.")


def _transformer(shapes: _Shapes) -> list[Part]:
    if any(mark in name for name in shapes for mark in _NOT_THESE):
        return []
    for marks, family, layout in _TRANSFORMERS:
        for prefix in _TRANSFORMER_PREFIXES:
            if not all(prefix + mark in shapes for mark in marks):
                continue
            if family is FLUX:
                name = "img_in.weight" if layout == "original" else "x_embedder.weight"
                if shapes[prefix + name][1] != 64:
                    words = (
                        f"a variant of {family.title} that is given pictures (Fill, Depth, Canny)"
                    )
                    return [Part("other", words, prefix)]
            return [Part(TRANSFORMER, f"a {family.title} transformer", prefix, family, layout)]
    return []


def _vae(shapes: _Shapes) -> list[Part]:
    for mark, layout in (
        ("decoder.up.0.block.0.conv1.weight", "original"),
        ("decoder.up_blocks.0.resnets.0.conv1.weight", "diffusers"),
    ):
        for prefix in _prefixes(shapes, mark):
            first = shapes.get(f"{prefix}decoder.conv_in.weight", ())
            if len(first) != 4:
                return [Part("other", "a VAE of a video model", prefix)]
            if first[1] != 16:
                words = f"a VAE of {first[1]} channels, as of Stable Diffusion 1, 2 and XL"
                return [Part("other", words, prefix)]
            return [
                Part(
                    VAE, f"a VAE of 16 channels ({SD3.title}, {FLUX.title})", prefix, layout=layout
                )
            ]
    return []


_CLIPS = {768: (CLIP_L, "a CLIP-L text encoder"), 1280: (CLIP_G, "a CLIP-G text encoder")}


def _clip(shapes: _Shapes) -> list[Part]:
    found = []
    mark = "text_model.embeddings.token_embedding.weight"
    if any("vision_model." in name for name in shapes):
        return []
    for prefix in _prefixes(shapes, mark):
        width = shapes[prefix + mark][1]
        kind, words = _CLIPS.get(width, ("other", f"a CLIP text encoder of width {width}"))
        found.append(Part(kind, words, prefix))
    return found


def _t5(shapes: _Shapes) -> list[Part]:
    mark = "encoder.block.0.layer.0.SelfAttention.q.weight"
    for prefix in _prefixes(shapes, mark):
        words, width = (*shapes.get(f"{prefix}shared.weight", ()), 0, 0)[:2]
        if words > 100_000:
            return [Part("other", "a UMT5 text encoder, as of Wan", prefix)]
        gated = f"{prefix}encoder.block.0.layer.1.DenseReluDense.wi_0.weight" in shapes
        if width != 4096 or not gated:
            return [Part("other", f"a T5 text encoder of width {width}", prefix)]
        return [Part(T5, "a T5-XXL text encoder", prefix)]
    return []


_STRANGERS = (
    # Looked for in names, in this order.
    (r"double_stream_modulation_img", "a FLUX.2 transformer"),
    (r"distilled_guidance_layer", "a Chroma transformer"),
    (r"img_attn_qkv|txt_attn_qkv", "a HunyuanVideo transformer"),
    (r"blocks\.0\.self_attn\.q\.", "a Wan transformer"),
    (r"transformer_blocks\.0\.img_mod\.", "a Qwen-Image transformer"),
    (r"noise_refiner\.", "a Lumina or Z-Image transformer"),
    (r"adaln_single", "a PixArt or LTX transformer"),
    (r"joint_transformer_blocks|double_layers\.0\.attn", "an AuraFlow transformer"),
    (r"controlnet_blocks|control_model|zero_convs|controlnet_", "a ControlNet"),
    (r"conditioner\.embedders|label_emb\.0\.0|add_embedding\.linear_1", "an SDXL model"),
    (r"input_blocks\.\d|down_blocks\.\d.*attentions", "a Stable Diffusion 1, 2 or XL model"),
    (r"blocks\.0\.attn1\.to_q\.[\s\S]*condition_embedder|patch_embedding\.", "a Wan transformer"),
    (r"vision_model\.|visual_projection", "a vision encoder"),
    (r"model\.layers\.0\.|language_model\.", "a language model"),
)


def _stranger(shapes: _Shapes) -> str:
    """A model that the engine cannot use, in words; empty where none is recognised."""
    names = "\n".join(shapes)
    for pattern, words in _STRANGERS:
        if re.search(pattern, names):
            return words
    return ""
