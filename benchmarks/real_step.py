"""Train one step of FLUX.1-dev at its full size on ComfyUI's MODEL, on a CPU, and measure the main memory.

    python benchmarks/real_step.py --comfyui PATH [--size 128] [--images 2] [--steps 1]

Run it with ComfyUI's Python; it takes some minutes and about 14 GB of memory. The file is written for the
occasion: the real names and shapes in fp8, all zeros and sparse, so that it takes no disk. Memory does not
depend on the values. ComfyUI's own loader reads it, and the step is the trainer's: reference, forward pass
with a LoRA of rank 16 on attention, recomputed backward pass, AdamW.
"""

from __future__ import annotations

import argparse
import json
import struct
import tempfile
import threading
import time
import types
from pathlib import Path

import torch
from real_networks import NETWORKS, Network
from real_size import use_comfyui

GIB = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--comfyui", type=Path, required=True, help="folder of ComfyUI")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument(
        "--blocks", type=int, default=0, help="only so many blocks, to check the program itself"
    )
    options = parser.parse_args()
    use_comfyui(options.comfyui)
    network = next(n for n in NETWORKS if n.title == "FLUX.1-dev")
    if options.blocks:
        small = {"depth": options.blocks, "depth_single_blocks": options.blocks}
        network = Network(**{**vars(network), "config": {**network.config, **small}})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "flux1-dev-fp8.safetensors"
        size = write_sparse(network, path)
        print(
            f"file: {size / GIB:.2f} GiB of zeros, {path.stat().st_blocks * 512 / 1e6:.1f} MB on disk"
        )
        train(path, size, options)


def write_sparse(network: Network, path: Path) -> int:
    """Write a checkpoint of zeros in fp8 with a network's names and shapes; return its bytes."""
    import comfy.supported_models

    config = getattr(comfy.supported_models, network.family)(dict(network.config))
    config.set_inference_dtype(torch.float8_e4m3fn, None)
    shapes = config.get_model({}, device="meta").diffusion_model.state_dict()
    header, end = {}, 0
    for name, tensor in shapes.items():
        start, end = end, end + tensor.numel()
        header[name] = {
            "dtype": "F8_E4M3",
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return end


class Memory:
    """Watch the resident memory of this process: its peak, in bytes, of all and of what is no file."""

    def __init__(self) -> None:
        self.all = self.anonymous = 0
        self._stop = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
            found = {line.split(":")[0]: line.split() for line in lines if ":" in line}
            kib = {name: int(found[name][1]) for name in ("VmRSS", "RssAnon")}
            self.all = max(self.all, kib["VmRSS"] * 1024)
            self.anonymous = max(self.anonymous, kib["RssAnon"] * 1024)

    def stop(self) -> None:
        self._stop.set()


def train(path: Path, size: int, options: argparse.Namespace) -> None:
    """Load the file as ComfyUI does and train; print seconds and memory of each part."""
    import comfy.sd
    from gdro_pack.gdro_comfy.data.conditioning import StructuredConditioning  # type: ignore
    from gdro_pack.gdro_comfy.models import flow  # type: ignore
    from gdro_pack.gdro_comfy.models.base import AdapterConfig, seeded_noise  # type: ignore
    from gdro_pack.gdro_comfy.training import step  # type: ignore
    from gdro_pack.gdro_comfy.training.objectives import GDRO  # type: ignore
    from gdro_pack.nodes.wires.model import NativeFlowModel  # type: ignore

    memory, start = Memory(), time.perf_counter()

    def report(part: str) -> None:
        nonlocal start
        print(
            f"{part:12}{time.perf_counter() - start:7.1f} s   peak {memory.all / GIB:6.2f} GiB resident, "
            f"{memory.anonymous / GIB:6.2f} of it not the file's own pages: "
            f"{memory.anonymous / size:.2f} x the file",
            flush=True,
        )
        start = time.perf_counter()

    report("start")
    with torch.inference_mode():
        patcher = comfy.sd.load_diffusion_model(
            str(path), model_options={"dtype": torch.float8_e4m3fn}
        )
        report("load")
        vae = types.SimpleNamespace(spacial_compression_decode=lambda: 8)
        model = NativeFlowModel(patcher, types.SimpleNamespace(), vae)
    report("model")
    tokens = torch.randn(1, 32, 4096, generator=torch.Generator().manual_seed(0))
    prompt = [[tokens, {"pooled_output": torch.zeros(1, 768)}]]
    cond = model.with_guidance(StructuredConditioning((prompt,)), 3.5)
    adapter = AdapterConfig(16, 16.0, "attention")
    with torch.inference_mode(False), torch.enable_grad(), model.active():
        shape = tuple(model._empty_latent((options.size, options.size)).shape[1:])
        x0 = seeded_noise(range(options.images), shape)
        noise = seeded_noise([99], shape).expand_as(x0)
        sigma = torch.full((options.images,), 0.7)
        groups = step.NoisyGroups(
            flow.interpolate(x0, noise, sigma), sigma, flow.target_velocity(x0, noise),
            cond.select([0] * options.images), options.images,
        )  # fmt: skip
        objective = GDRO(group_size=options.images)
        rewards = torch.linspace(0, 1, options.images)[None]
        with model.adapters(adapter) as parameters, model.checkpointed():
            optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4)
            for _ in range(options.steps):
                with model.graph():
                    signals, backward = step.measure(model, groups, options.images)
                    report("forward")
                    backward(objective.loss(signals, rewards).loss)
                    report("backward")
                optimizer.step()
                there = sum(p.grad is not None for p in parameters.values())
            trained = sum(p.numel() for p in parameters.values())
    memory.stop()
    print(f"{there} of {len(parameters)} gradients, {trained / 1e6:.1f} M trained weights")


if __name__ == "__main__":
    main()
