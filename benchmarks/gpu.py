"""SD3.5-medium and FLUX.1-dev at real size on a GPU: peak memory, seconds a step, use of the card.

    python benchmarks/gpu.py [--families sd3 flux] [--size 512] [--images 6] [--steps 3]

Random weights: memory and speed do not depend on them. A step is one group: the reference without
gradients, the adapter with them, backward, AdamW. Its operations are counted as 2 x weights x tokens of
each linear layer for a forward pass; forward, reference and the backward pass through the frozen base
count one each, checkpointing nothing (it is work that is done twice). The card's rate is measured, by a
large product of matrices in bfloat16.
"""

from __future__ import annotations

import argparse
import gc
import logging
import time

import random_models
import torch
from torch import nn

from gdro_comfy.errors import InputError
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.models import flow
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.models.quantization import QUANTIZATIONS
from gdro_comfy.training import memory, microbatch
from gdro_comfy.training.objectives import GDRO

log = logging.getLogger(__name__)


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
        "--small", action="store_true", help="small models, to try the script itself"
    )
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.small:
        parser.error("there is no GPU here; --small tries the script on a CPU")
    rate = matrix_rate(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {rate / 1e12:.1f} TFLOP/s measured in bfloat16")
    print(f"one group of {options.images} images of {options.size} px, rank 32 on attention\n")
    print(
        f"{'family':8}{'base':8}{'checkpoint':12}{'images':>8}{'peak GB':>9}{'estimate':>10}"
        f"{'s / step':>10}{'use':>7}"
    )
    for family in options.families:
        for how in options.quantizations:
            measure_base(family, how, device, rate, options)


def measure_base(
    family: str, how: str, device: torch.device, rate: float, options: argparse.Namespace
) -> None:
    """The rows of one family and quantization: all images at once and one at a time, with and
    without checkpointing."""
    try:
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        model = random_models.make(family, device, dtype, options.small)
        model.quantize(ConsoleHost("output/benchmark", quiet=True), how)
    except (InputError, torch.OutOfMemoryError) as error:
        print(f"{family:8}{how:8}{error}")
        return
    for checkpointed in (False, True):
        for at_once in (options.images, 1):
            row = f"{family:8}{how:8}{'yes' if checkpointed else 'no':12}{at_once:8d}"
            try:
                found = measure(model, at_once, checkpointed, options)
                peak, estimate, seconds, operations = found
                use = f"{operations / seconds / rate:7.0%}"
                print(f"{row}{peak / 1e9:9.1f}{estimate / 1e9:10.1f}{seconds:10.3f}{use}")
            except torch.OutOfMemoryError:
                print(f"{row}  out of memory")
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()


def measure(
    model, at_once: int, checkpointed: bool, options: argparse.Namespace
) -> tuple[float, float, float, float]:
    """Peak bytes, estimated bytes, seconds a step, and useful operations a step."""
    device, k, side = model.device, options.images, options.size // 8
    cuda = device.type == "cuda"
    x0, noise = torch.randn(k, 16, side, side), torch.randn(1, 16, side, side)
    sigma = torch.full((k,), 0.6)
    x = flow.interpolate(x0, noise, sigma).to(device)
    target = flow.target_velocity(x0, noise).to(device)
    sigma, cond = sigma.to(device), random_models.conditioning(model, k)
    rewards = torch.linspace(0, 1, k, device=device)[None]
    objective = GDRO(group_size=k)

    def errors(part: slice) -> torch.Tensor:
        some = cond.select(range(k)[part])
        return flow.velocity_error(model.velocity(x[part], sigma[part], some), target[part])

    def reference(part: slice) -> torch.Tensor:
        with torch.no_grad(), model.reference():
            return errors(part)

    config = AdapterConfig(32, 32.0, "attention")
    with model.active(), model.adapters(config) as parameters, model.checkpointed(checkpointed):
        optimizer = torch.optim.AdamW(parameters.values(), lr=1e-4, foreach=False)
        operations = 3 * k * forward_operations(model, lambda: reference(slice(0, 1)))
        trainable = sum(p.numel() for p in parameters.values())
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        times = []
        for _ in range(options.steps + 1):
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            measured = microbatch.measure(errors, reference, k, at_once)
            loss = objective.loss(measured.errors[None], measured.reference[None], rewards).loss
            measured.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
        peak = float(torch.cuda.max_memory_allocated()) if cuda else float("nan")
    size = (options.size, options.size)
    estimate = memory.estimate(model, size, at_once, trainable, checkpointed)
    return peak, estimate, min(times[1:]), operations


def forward_operations(model, forward) -> float:
    """2 x weights x tokens over all linear layers of the base, in one forward pass."""
    counted = [0.0]

    def count(module: nn.Linear, inputs, output) -> None:
        rows = output.numel() / module.out_features
        counted[0] += 2 * rows * module.in_features * module.out_features

    hooks = [
        module.register_forward_hook(count)
        for name, module in model.transformer.named_modules()
        if isinstance(module, nn.Linear) and "lora_" not in name
    ]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return counted[0]


def matrix_rate(device: torch.device) -> float:
    """Operations a second of a large product of matrices in bfloat16."""
    n = 8192 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    b = torch.randn(n, n, device=device, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(10):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        _ = a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


if __name__ == "__main__":
    main()
