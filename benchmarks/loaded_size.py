"""Count what each stage takes of a card with models that GDRO Load Base Model loads, without a card.

    python benchmarks/loaded_size.py [--only SD3.5-medium] [--sizes 512 1024] [--toy]

Released configurations on torch's meta device, in bfloat16; a LoRA of rank 32 on attention. For each model:
parameters, LoRA layers, operations of a pass of the network for one image, and what is live at the peak of
each stage beside the weights: encoding a prompt (T5-XXL from an fp8 file), sampling and decoding one image,
and a training step of one image and each further one, without and with gradient checkpointing. Then for each
way of storing the base the bytes of its weights, and how many images of a step fit on cards.
Everything is counted, nothing is measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import sparse_files as sparse
import torch
from random_models import _NoEncoder
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.models import counting
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.models.families import FLUX, SD3
from gdro_comfy.models.loading import flow_model
from gdro_comfy.models.quantization import SHARES
from gdro_comfy.models.stored_weights import Stored, StoredLinear, replace
from gdro_comfy.training import memory

CARDS = (12, 16, 24)
ADAPTER = AdapterConfig(32, 32.0, "attention")
STORED = {"bf16": 1.0, "fp8 file or 8-bit": SHARES["8-bit"], "nf4": SHARES["nf4"]}
_TOY = {
    "FLUX.1-dev": {"num_layers": 1, "num_single_layers": 1},
    "SD3.5-large": {"num_layers": 2},
    "SD3.5-medium": {"num_layers": 2, "dual_attention_layers": (0,)},
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=list(sparse.TRANSFORMERS))
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--toy", action="store_true", help="cut the models to a few layers")
    options = parser.parse_args()
    for title in sparse.TRANSFORMERS:
        if options.only in (None, title):
            model = make(title, _TOY[title] if options.toy else None)
            print(about(title, model), flush=True)
            for size in options.sizes:
                print("\n".join(rows(model, size)), flush=True)
            print()


def make(title: str, changes: dict[str, Any] | None = None) -> Any:
    """Return a released model whose network and VAE are on the meta device."""
    from diffusers import AutoencoderKL

    network = nn.Module.to(sparse.transformer(title, changes), torch.bfloat16)
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=16,
            scaling_factor=1.5, shift_factor=0.06, use_quant_conv=False, use_post_quant_conv=False,
        )  # fmt: skip
    nn.Module.to(
        vae, torch.bfloat16
    )  # diffusers' own warns of layers to keep, of which there are none
    pipeline = SimpleNamespace(
        transformer=network, vae=vae, text_encoder=_NoEncoder(), text_encoder_2=_NoEncoder(),
        text_encoder_3=_NoEncoder(), vae_scale_factor=8, default_sample_size=128,
        tokenizer_max_length=77,
    )  # fmt: skip
    family = FLUX if title.startswith("FLUX") else SD3
    return flow_model(family, pipeline, {"pipeline": "counted"}, counting.META)


def about(title: str, model: Any) -> str:
    """Return the line about a model, whatever the size of images."""
    modules, shapes = model.adapter_modules(ADAPTER.target), model.linear_shapes()
    trained = ADAPTER.rank * sum(sum(shapes[name]) for name in modules)
    weights = sum(p.numel() for p in model.transformer.parameters())
    text, encoding = encoder()
    return (
        f"{title}: {weights / 1e9:.2f} B parameters; LoRA: {len(modules)} layers, {trained / 1e6:.1f} M; "
        f"T5-XXL in fp8: {text / 1e9:.1f} GB and {encoding / 1e9:.2f} for a prompt"
    )


def encoder() -> tuple[int, int]:
    """Return the bytes of T5-XXL's weights from an fp8 file, and of what is live when it reads a prompt."""
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    with torch.device("meta"):
        model = T5EncoderModel(config).to(torch.bfloat16).eval().requires_grad_(False)
    for name, layer in list(model.named_modules()):
        if type(layer) is nn.Linear:
            replace(model, name, Stored(layer.weight.data.to(torch.float8_e4m3fn)), torch.bfloat16)
    stored = sum(p.numel() * p.element_size() for p in model.parameters())
    assert any(isinstance(layer, StoredLinear) for layer in model.modules())
    ids = torch.zeros(1, 256, dtype=torch.long, device="meta")
    return stored, counting.peak_of(lambda: model(ids), [model])


def rows(model: Any, size: int) -> list[str]:
    """Return the lines about one size of images."""
    example = memory.Example((16, size // 8, size // 8), _conditioning(model))
    x = torch.empty(1, *example.shape, device="meta")
    cond = example.conditioning.to("meta")

    def velocity() -> object:
        return model.velocity(x, torch.empty(1, device="meta"), cond)

    sampling = counting.peak_of(velocity, [model.transformer])
    z = x.to(torch.bfloat16)
    decoding = counting.peak_of(lambda: model.vae.decode(z, return_dict=False)[0], [model.vae])
    whole, recomputed = (memory.count(model, example, ADAPTER, on) for on in (False, True))
    steps = ", checkpointed ".join(
        f"{step.of(1) / 1e9:.2f} and each {step.per_image / 1e9:.2f}"
        for step in (whole, recomputed)
    )
    lines = [
        f"  {size} px: {operations(velocity) / 1e12:.1f} TFLOP a pass; GB live in sampling "
        f"{sampling / 1e9:.2f}, decoding {decoding / 1e9:.2f}, a step {steps}"
    ]
    bf16 = model.weights_in_bytes()
    for stored, share in STORED.items():
        static = memory.static_bytes(model, ADAPTER) - bf16 + share * bf16
        fits = [
            max(0, int((gb * 1e9 - static - step.fixed) // step.per_image))
            for gb in CARDS
            for step in (whole, recomputed)
        ]
        cards = ", ".join(f"{a} or {b}" for a, b in zip(fits[::2], fits[1::2], strict=True))
        lines.append(f"    {stored:18}{share * bf16 / 1e9:6.1f} GB   images in {CARDS} GB: {cards}")
    return lines


def operations(work: Callable[[], object]) -> int:
    """Return the operations of some work; a multiplication with its addition counts as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad(), counting.fused_attention():
        work()
    return counter.get_total_flops()


def _conditioning(model: Any) -> Any:
    config = model.transformer.config
    shapes = {
        "hidden": (1, model.text_tokens, config.joint_attention_dim),
        "pooled": (1, config.pooled_projection_dim),
    }
    tensors = {k: torch.empty(v, dtype=torch.bfloat16, device="meta") for k, v in shapes.items()}
    return model.with_guidance(BatchedConditioning(tensors), 3.5)


if __name__ == "__main__":
    main()
