"""Files of released models at their true sizes: their names and shapes, all weights zero, and no disk space.

A sparse file has holes that read as zeros. The transformers have their original names, as in the files that
people download.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from random_models import FLUX_DEV, SD35_MEDIUM
from torch import nn

from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.models import loading, original_layouts

SD35_LARGE = {
    **SD35_MEDIUM, "num_layers": 38, "num_attention_heads": 38, "caption_projection_dim": 2432,
    "pos_embed_max_size": 192, "dual_attention_layers": (),
}  # fmt: skip
TRANSFORMERS = {
    "FLUX.1-dev": FLUX_DEV,
    "SD3.5-large": SD35_LARGE,
    "SD3.5-medium": SD35_MEDIUM,
}
_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "F8_E4M3": 1}


class SmallTokenizers(ConsoleHost):
    """A host whose tokenizers know a few words, in place of those that ComfyUI brings."""

    def tokenizer_dir(self, kind: str) -> Path:
        if kind == "clip":
            return loading.bundled_folder("tiny SD3") / "tokenizer"
        folder = self.output_dir / "t5_tokenizer"
        if not folder.is_dir():
            _t5_tokenizer(folder)
        return folder


def _t5_tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: i for i, word in enumerate(("<pad>", "</s>", "<unk>", "a", "red", "circle"))}
    tokenizer = Tokenizer(models.WordLevel(words, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def transformer(title: str, changes: Mapping[str, Any] | None = None) -> nn.Module:
    """Return the network of a released model on the meta device; ``changes`` make it another size."""
    from diffusers import FluxTransformer2DModel, SD3Transformer2DModel

    network = FluxTransformer2DModel if title.startswith("FLUX") else SD3Transformer2DModel
    with torch.device("meta"):
        return network(**{**TRANSFORMERS[title], **(changes or {})})


def transformer_shapes(title: str, network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a transformer's original file, by name."""
    config = network.config
    if title.startswith("FLUX"):
        names = original_layouts.flux_names(config.num_layers, config.num_single_layers)
    else:
        names = original_layouts.sd3_names(config.num_layers)
    shapes, originals = _shapes(network), {}
    for old, modules in names.items():
        modules = [name.removeprefix(original_layouts.SWAPPED) for name in modules]
        for end in (".weight", ".bias", ""):
            if all(name + end in shapes for name in modules):
                parts = [shapes.pop(name + end) for name in modules]
                suffix = ".scale" if old.endswith(("query_norm", "key_norm")) else end
                originals[old + suffix] = (sum(part[0] for part in parts), *parts[0][1:])
    if shapes:
        raise ValueError(f"the table of names lacks {sorted(shapes)}")
    return originals


def t5(layers: int = 24, words: int = 32128) -> dict[str, tuple[int, ...]]:
    """Return the shapes of T5-XXL's encoder."""
    from accelerate import init_empty_weights
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=words, d_model=4096, d_kv=64, d_ff=10240, num_layers=layers, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with init_empty_weights():
        model = T5EncoderModel(config)
    return {k: v for k, v in _shapes(model).items() if "embed_tokens" not in k}


def clip(large: bool, layers: int | None = None) -> dict[str, tuple[int, ...]]:
    """Return the shapes of CLIP-L or CLIP-G."""
    from accelerate import init_empty_weights
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    width, depth = (1280, 32) if large else (768, 12)
    config = CLIPTextConfig(
        hidden_size=width, intermediate_size=4 * width, projection_dim=width,
        num_hidden_layers=layers or depth, num_attention_heads=width // 64,
    )  # fmt: skip
    with init_empty_weights():
        model = CLIPTextModelWithProjection(config)
    shapes = _shapes(model)
    if not any(name.startswith("text_model.") for name in shapes):
        shapes = {
            n if n.startswith("text_proj") else f"text_model.{n}": s for n, s in shapes.items()
        }
    return {k: v for k, v in shapes.items() if large or not k.startswith("text_proj")}


def vae() -> dict[str, tuple[int, ...]]:
    """Return the shapes of the VAE of SD3 and FLUX.1, under diffusers' names."""
    from accelerate import init_empty_weights
    from diffusers import AutoencoderKL

    with init_empty_weights():
        model = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=16,
            use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
    return _shapes(model)


def write(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str) -> Path:
    """Write a sparse safetensors file of zeros.

    Args:
        dtype: of all tensors, as safetensors writes it.
    """
    header, end = {}, 0
    for name, shape in shapes.items():
        size = _BYTES[dtype]
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return path


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
