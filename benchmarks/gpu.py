"""Measure peak memory, seconds per step and use of the GPU with SD3.5-medium and FLUX.1-dev at real size.

    python benchmarks/gpu.py [--families sd3 flux] [--size 512] [--images 6] [--steps 3]

The weights are random, since memory and speed do not depend on them. A step is one group: the reference
without gradients, the adapter with gradients, the backward pass and AdamW. A forward pass counts as 2 x
weights x tokens operations for each linear layer. The reference, the forward pass and the backward pass
through the frozen base count as one forward pass each. Checkpointing counts nothing, because it only
repeats work. The rate of the GPU is measured with a large matrix product in bfloat16.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from typing import NamedTuple

import random_models
import torch
from group_step import GroupStep
from torch import nn

from gdro_comfy.errors import InputError
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.models.quantization import QUANTIZATIONS
from gdro_comfy.training import memory


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--families", nargs="+", default=["sd3", "flux"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--quantizations", nargs="+", default=list(QUANTIZATIONS))
    parser.add_argument(
        "--small", action="store_true", help="small models, to check the script itself"
    )
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.small:
        parser.error("no GPU was found; use --small to check the script on a CPU")
    rate = matrix_rate(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {rate / 1e12:.1f} TFLOP/s measured in bfloat16")
    print(f"one group of {options.images} images of {options.size} px, rank 32 on attention\n")
    print(
        f"{'family':8}{'base':8}{'checkpoint':12}{'images':>8}{'peak GB':>9}{'estimate':>10}"
        f"{'s / step':>10}{'use':>7}"
    )
    for family in options.families:
        for quantization in options.quantizations:
            measure_base(family, quantization, device, rate, options)


def measure_base(
    family: str, quantization: str, device: torch.device, rate: float, options: argparse.Namespace
) -> None:
    """Print the rows of one family and quantization.

    They cover all images at once and one at a time, each with and without checkpointing.
    """
    try:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        model = random_models.make(family, device, dtype, options.small)
        model.prepare(ConsoleHost(quiet=True), quantization=quantization)
    except (InputError, torch.OutOfMemoryError) as error:
        print(f"{family:8}{quantization:8}{error}")
        return
    for checkpointed in (False, True):
        for at_once in (options.images, 1):
            row = f"{family:8}{quantization:8}{'yes' if checkpointed else 'no':12}{at_once:8d}"
            try:
                cost = measure(model, at_once, checkpointed, options)
                use = cost.operations / cost.seconds / rate
                print(
                    f"{row}{cost.peak / 1e9:9.1f}{cost.estimate / 1e9:10.1f}{cost.seconds:10.3f}"
                    f"{use:7.0%}"
                )
            except torch.OutOfMemoryError:
                print(f"{row}  out of memory")
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()


class Cost(NamedTuple):
    """What one step takes: peak and estimated bytes, seconds, and useful operations.

    ``peak`` is NaN on a CPU.
    """

    peak: float
    estimate: float
    seconds: float
    operations: float


def measure(model, at_once: int, checkpointed: bool, options: argparse.Namespace) -> Cost:
    """Return the cost of a step with ``at_once`` images in a pass; the best of several steps counts."""
    device, config = model.device, AdapterConfig(32, 32.0, "attention")
    with model.active(), model.adapters(config) as parameters, model.checkpointed(checkpointed):
        group = GroupStep(model, options.images, options.size)
        optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, foreach=False)
        forward = forward_operations(model, lambda: group.forward(1))
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(options.steps + 1):
            _wait(device)
            start = time.perf_counter()
            group.backward(at_once)
            optimizer.step()
            optimizer.zero_grad()
            _wait(device)
            times.append(time.perf_counter() - start)
        on_gpu = device.type == "cuda"
        peak = float(torch.cuda.max_memory_allocated()) if on_gpu else float("nan")
        conditioning = group.groups.conditioning.select([0]).to("cpu")
        example = memory.Example(tuple(group.groups.x.shape[1:]), conditioning)
    counted = memory.count(model, example, config, checkpointed)
    estimate = float("nan")
    if counted is not None:
        estimate = memory.static_bytes(model, config) + counted.of(at_once)
    return Cost(peak, estimate, min(times[1:]), 3 * options.images * forward)


def forward_operations(model, forward: Callable[[], object]) -> float:
    """Return 2 x weights x tokens over all linear layers of the base in one forward pass."""
    operations = 0.0

    def count(module: nn.Linear, inputs, output) -> None:
        nonlocal operations
        tokens = output.numel() / module.out_features
        operations += 2 * tokens * module.in_features * module.out_features

    hooks = [
        module.register_forward_hook(count)
        for name, module in model.transformer.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name
    ]
    try:
        with model.reference():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    return operations


def matrix_rate(device: torch.device) -> float:
    """Return the operations per second of a large matrix product in bfloat16."""
    n = 8192 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    b = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(10):
        _wait(device)
        start = time.perf_counter()
        _ = a @ b
        _wait(device)
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
