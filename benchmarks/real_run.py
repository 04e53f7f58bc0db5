"""Take SD3.5-medium at its true size from single files to a LoRA on a CPU, with random weights.

    python benchmarks/real_run.py [--size 256] [--toy]

Files with the names and shapes of the release (bf16 transformer, fp16 CLIPs, VAE; 6.7 GB in a temporary
folder) are drawn, loaded as GDRO Load Base Model does, and go through a rollout of two images of one prompt,
two steps each, a score, one training step of GDRO, the LoRA's file, and one image with it. Prints the seconds
and the process's memory after each stage. Nothing is learned; what is shown is that all of it works at this
size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import sparse_files as sparse
import torch

from gdro_comfy.data.prompts import Prompt, from_text
from gdro_comfy.data.safetensors_files import read_header
from gdro_comfy.lora import files as lora_files
from gdro_comfy.models import single_files
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rewards.base import RewardResult
from gdro_comfy.rollouts.generate import generate
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training import memory
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train

PROMPT = "a red circle"
_TOY = {"num_layers": 2, "dual_attention_layers": (0,), "pos_embed_max_size": 32}


class Brightness:
    """A reward that needs nothing: the mean of an image."""

    name = "brightness"
    range = (0.0, 1.0)

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Accept all."""

    def score(
        self,
        images: Sequence[Any],
        prompts: Sequence[Prompt],
        check_cancelled: Callable[[], None] = lambda: None,
    ) -> RewardResult:
        """Return the mean of each PIL image, in [0, 1]."""
        means = [np.asarray(image).mean() / 255 for image in images]
        return RewardResult(np.array(means, dtype=np.float32))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--size", type=int, default=256, help="pixels along one side")
    parser.add_argument("--toy", action="store_true", help="cut the models to a few layers")
    options = parser.parse_args()
    print(f"{'stage':34}{'seconds':>9}{'GB of memory':>14}")
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), options.size, options.toy)


def run(folder: Path, size: int, toy: bool) -> None:
    """Go through all stages below a folder."""
    host = sparse.SmallTokenizers(folder / "output", quiet=True)
    device, start = torch.device("cpu"), time.perf_counter()

    def done(stage: str) -> None:
        nonlocal start
        used = (memory.peak(device) or 0) / 1e9
        print(f"{stage:34}{time.perf_counter() - start:9.1f}{used:14.2f}", flush=True)
        start = time.perf_counter()

    files = draw_files(folder, toy)
    done("draw the files")
    model = single_files.load(host, files, device, torch.float32)
    weights = sum(p.numel() for p in model.transformer.parameters())
    done(f"load {weights / 1e9:.2f} B weights")
    config = RolloutConfig(
        images_per_prompt=2, steps=2, guidance=1.0, width=size, height=size, run_name="real"
    )
    rollout = sample_rollout(host, model, from_text(PROMPT), config)
    done("two images, two steps each")
    rollout = score_rollout(host, rollout, Brightness())
    done(f"scores {np.round(rollout.scores()[0], 5).tolist()}")
    settings = TrainConfig(
        steps=1, groups_per_step=1, adapter=AdapterConfig(32, 32.0), preview_every=0, images_at_once=2
    )  # fmt: skip
    aligned = train(host, model, rollout, GDRO(group_size=2), settings)
    row = aligned.history()[-1]
    done(f"one step, loss {row['loss']:.4f}")
    lora = lora_files.load(aligned.path)
    changed = sum(float(t.abs().sum()) > 0 for n, t in lora.tensors.items() if n.endswith("lora_B"))
    done(f"LoRA: {changed} of {len(lora.modules)} layers changed")
    images = generate(
        host, model, PROMPT, 1, 7, steps=1, guidance=1.0, width=size, height=size, strength=1.0,
        aligned=aligned,
    )  # fmt: skip
    done(f"image with it, {tuple(images.shape)}")


def draw_files(folder: Path, toy: bool) -> dict[str, Path]:
    """Write the files with random weights; return them by the input of the node."""
    network = sparse.transformer("SD3.5-medium", _TOY if toy else None)
    layers = 1 if toy else None
    shapes: dict[str, tuple[Mapping[str, tuple[int, ...]], str]] = {
        "transformer": (sparse.transformer_shapes("SD3.5-medium", network), "BF16"),
        "clip_l": (sparse.clip(False, layers), "F16"),
        "clip_g": (sparse.clip(True, layers), "F16"),
        "vae": (sparse.vae(), "BF16"),
    }
    files = {}
    for name, (tensors, dtype) in shapes.items():
        files[name] = sparse.write(folder / f"{name}.safetensors", tensors, dtype)
        fill(files[name], torch.bfloat16 if dtype == "BF16" else torch.float16)
    return files


def fill(path: Path, dtype: torch.dtype) -> None:
    """Draw the weights of a file of zeros: matrices normal, norms one."""
    header = read_header(path)
    generator = torch.Generator().manual_seed(0)
    start = path.stat().st_size - sum(2 * int(np.prod(s)) for s in header.shapes.values())
    with open(path, "r+b") as file:
        file.seek(start)
        for name, shape in header.shapes.items():
            tensor = torch.zeros(shape, dtype=dtype)
            if len(shape) > 1:
                tensor.normal_(0, 0.02, generator=generator)
            elif name.endswith("weight"):
                tensor.fill_(1)
            file.write(tensor.view(torch.uint8).numpy().tobytes())


if __name__ == "__main__":
    main()
