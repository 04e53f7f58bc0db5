"""Count what a training of released models takes, without a GPU and without their weights.

    python benchmarks/real_size.py --comfyui PATH [--only FLUX.1-dev] [--sizes 512 1024] [--target attention]

Run it with ComfyUI's Python. The networks are ComfyUI's own in their released configurations, on torch's
meta device: weights in bfloat16 or fp8 as the shipped workflows load them, a LoRA of rank 32. Operations are
counted by torch's FlopCounterMode, memory by following every allocation of a training step. Nothing is
measured in seconds, and nothing is loaded.
"""

from __future__ import annotations

import argparse
import os
import sys
import types
from pathlib import Path
from typing import Any

import real_networks
import torch

PACK = Path(__file__).resolve().parent.parent
CARDS = (12, 16, 24)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--comfyui", type=Path, required=True, help="folder of ComfyUI")
    parser.add_argument("--only", choices=[n.title for n in real_networks.NETWORKS])
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--target", default="attention", choices=("attention", "attention+mlp"))
    options = parser.parse_args()
    use_comfyui(options.comfyui)
    print(
        f"{'model':22}{'weights':>16}{'LoRA':>14}{'px':>6}{'TFLOP':>7}{'1 image':>9}{'and each':>9}"
        f"{'recomputed':>11}{'and each':>9}  images of a step that fit in {CARDS} GB, recomputed"
    )
    for network in real_networks.NETWORKS:
        if options.only in (None, network.title):
            for size in options.sizes:
                print(row(network, size, options.target), flush=True)


def use_comfyui(folder: Path) -> None:
    """Make ComfyUI and this pack importable, without a server."""
    sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]
    sys.path.insert(0, str(folder))
    os.chdir(folder)
    import comfy.options

    comfy.options.enable_args_parsing()
    for name, path in (("gdro_pack", PACK), ("gdro_pack.nodes", PACK / "nodes")):
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def row(network: real_networks.Network, size: int, target: str) -> str:
    """Return a row of the table."""
    from gdro_pack.gdro_comfy.models.base import AdapterConfig  # type: ignore
    from gdro_pack.gdro_comfy.training import memory  # type: ignore

    model, example = make(network, size)
    adapter = AdapterConfig(32, 32.0, target)
    modules, shapes = model.adapter_modules(target), model.linear_shapes()
    trained = 32 * sum(sum(shapes[name]) for name in modules)
    weights = sum(p.numel() for p in model.network.parameters())
    whole, recomputed = (memory.count(model, example, adapter, on) for on in (False, True))
    stored = weights * network.weight_bytes
    static = memory.static_bytes(model, adapter) - model.weights_in_bytes() + stored
    fits = [
        max(0, int((gb * 1e9 - static - recomputed.fixed) // recomputed.per_image)) for gb in CARDS
    ]
    return (
        f"{network.title:22}{weights / 1e9:6.2f} B{stored / 1e9:5.1f} GB"
        f"{len(modules):5d}{trained / 1e6:7.1f} M{size:6d}{operations(model, example) / 1e12:7.1f}"
        + "".join(f"{c.of(1) / 1e9:9.2f}{c.per_image / 1e9:9.2f}" for c in (whole, recomputed))
        + "  "
        + ", ".join("0" if not n else f"{min(n, 99)}" for n in fits)
    )


def make(network: real_networks.Network, size: int) -> tuple[Any, Any]:
    """Return a NativeFlowModel on the meta device, and what goes through it."""
    import comfy.model_patcher
    import comfy.sample
    import comfy.supported_models
    from gdro_pack.gdro_comfy.data.conditioning import StructuredConditioning  # type: ignore
    from gdro_pack.gdro_comfy.training import memory  # type: ignore
    from gdro_pack.nodes.wires.model import NativeFlowModel  # type: ignore

    config = getattr(comfy.supported_models, network.family)(dict(network.config))
    config.set_inference_dtype(torch.bfloat16, None)
    base = config.get_model({}, device="meta")
    patcher = comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))
    vae = types.SimpleNamespace(
        spacial_compression_decode=lambda: (
            patcher.get_model_object("latent_format").spacial_downscale_ratio
        )
    )
    model = NativeFlowModel(patcher, types.SimpleNamespace(), vae)
    tokens = torch.zeros(1, network.tokens, network.width)
    prompt = [[tokens, {"pooled_output": torch.zeros(1, network.pooled)}]]
    conditioning = model.with_guidance(StructuredConditioning((prompt,)), 3.5)
    shape = tuple(model._empty_latent((size, size)).shape[1:])
    return model, memory.Example(shape, conditioning)


def operations(model: Any, example: Any) -> int:
    """Return the operations of a pass for one image; a multiplication with its addition counts as two."""
    from gdro_pack.gdro_comfy.models import counting  # type: ignore
    from torch.utils.flop_counter import FlopCounterMode

    twin = model.without_values()
    x = torch.empty(1, *example.shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad(), counting.fused_attention():
        twin.velocity(x, torch.empty(1, device="meta"), example.conditioning.to("meta"))
    return counter.get_total_flops()


if __name__ == "__main__":
    main()
