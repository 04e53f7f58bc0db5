"""Measure a training step in forward passes on both families, and rollouts against diffusers' pipeline.

    python benchmarks/step.py [--real] [--size 256] [--images 6] [--rounds 5] [--threads N] [--compile]

The variants take turns in every round. Each time is divided by that of the round's forward pass (of the
same images, without gradients), and the table shows medians. The weights are random, since the speed does
not depend on them; without --real, the models are small ones of the same architecture. With --compile, the
blocks of the transformer also run through torch.compile, which needs a C++ compiler (on a GPU, Triton).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable

import random_models
import torch
from group_step import GroupStep
from torch import Tensor

from gdro_comfy.data.prompts import shipped
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig, seeded_noise


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--real", action="store_true", help="SD3.5-medium and FLUX.1-dev in full")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    parser.add_argument(
        "--families", nargs="*", default=["sd3", "flux"], help="none: rollouts only"
    )
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    print(f"{name}, {torch.get_num_threads()} threads, torch {torch.__version__}, {dtype}; medians")
    for family in options.families:
        model = random_models.make(family, device, dtype, small=not options.real)
        measure_steps(family, model, options)
        del model
    measure_rollouts(device, options.rounds)


def measure_steps(family: str, model, options: argparse.Namespace) -> None:
    """Print the table of one family."""
    k = options.images

    def step(at_once: int, reference: Tensor | None, checkpointed: bool) -> None:
        with model.checkpointed(checkpointed):
            group.backward(at_once, reference)

    def forward() -> None:
        group.forward(k)

    with model.active(), model.adapters(AdapterConfig(16, 16.0, "attention")) as parameters:
        group = GroupStep(model, k, options.size)
        cached = group.reference_errors()
        variants: dict[str, Callable[[], None]] = {
            "one forward pass": forward,
            "whole group, reference cached": lambda: step(k, cached, False),
            "whole group, reference computed": lambda: step(k, None, False),
            "whole group, checkpointed": lambda: step(k, None, True),
            "2 images at once": lambda: step(2, None, False),
            "2 images at once, checkpointed": lambda: step(2, None, True),
        }
        if options.compile:
            variants["one forward pass, compiled"] = compiled(model, forward)
            variants["reference cached, compiled"] = compiled(model, lambda: step(k, cached, False))
        seconds = time_in_turns(variants, options.rounds, model.device, parameters.values())
    tokens = (options.size // 16) ** 2 + model.text_tokens
    kind = "as released" if options.real else "small"
    print(f"\n{family}, {kind}: {k} images of {options.size} px ({tokens} tokens each)")
    print(f"  {'':36}{'seconds':>9}{'forwards':>10}")
    for name, times in seconds.items():
        ratio = statistics.median(
            t / f for t, f in zip(times, seconds["one forward pass"], strict=True)
        )
        print(f"  {name:36}{statistics.median(times):9.3f}{ratio:10.2f}")


def compiled(model, work: Callable[[], None]) -> Callable[[], None]:
    """Return the work with compiled blocks; torch caches the compiled code between calls."""

    def run() -> None:
        with model.compiled():
            work()

    return run


def time_in_turns(
    variants: dict[str, Callable[[], None]],
    rounds: int,
    device: torch.device,
    parameters: Iterable[torch.nn.Parameter] = (),
) -> dict[str, list[float]]:
    """Return the seconds of each variant in each round; a warm-up round is not counted.

    Gradients of ``parameters`` are dropped before each variant.
    """
    parameters = list(parameters)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for round_number in range(rounds + 1):
        for name, variant in variants.items():
            for parameter in parameters:
                parameter.grad = None
            _wait(device)
            start = time.perf_counter()
            variant()
            _wait(device)
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def measure_rollouts(device: torch.device, rounds: int) -> None:
    """Compare batches over prompts, encoded once, with diffusers' pipeline prompt by prompt."""
    model = loading.load(loading.bundled_folder("tiny SD3"), device)
    prompts = shipped("shapes_train").limit(8).prompts
    images, count = 4, 4 * 8
    shape = (16, 16, 16)
    with model.active():
        encoded = model.encode(prompts)

        def ours() -> None:
            cond = encoded.select([i for i in range(len(prompts)) for _ in range(images)])
            model.decode(model.sample(cond, range(count), 8, 2.0, (64, 64)))

        def diffusers() -> None:
            for prompt in prompts:
                model.pipeline(
                    prompt.text, num_images_per_prompt=images, num_inference_steps=8,
                    guidance_scale=2.0, height=64, width=64, max_sequence_length=0,
                    latents=seeded_noise(range(images), shape).to(device), output_type="pt",
                )  # fmt: skip

        model.pipeline.set_progress_bar_config(disable=True)
        model.pipeline.to(device)
        seconds = time_in_turns({"ours": ours, "diffusers": diffusers}, rounds, device)
    speedup = statistics.median(
        theirs / ours for theirs, ours in zip(seconds["diffusers"], seconds["ours"], strict=True)
    )
    print(f"\nrollout of {count} images of 8 prompts, the bundled model, 8 steps with guidance 2")
    print(f"  {'diffusers, prompt by prompt':36}{statistics.median(seconds['diffusers']):9.3f} s")
    print(f"  {'batched over prompts, encoded once':36}{statistics.median(seconds['ours']):9.3f} s")
    print(f"  {speedup:.2f} times as fast")


if __name__ == "__main__":
    main()
