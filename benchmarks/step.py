"""A training step in units of one forward pass, on both families; and rollouts against the plain loop.

    python benchmarks/step.py [--real] [--size 256] [--images 6] [--rounds 5] [--threads N] [--compile]

The alternatives take turns in every round, and each is divided by the forward pass (of the same images,
without gradients) of its round; the table has the medians. Random weights, as the speed does not
depend on them. Without --real the models are small ones of the same kind. With --compile the blocks of the
transformer also run through torch.compile, which needs a C++ compiler (on a GPU, Triton).
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import random_models
import torch

from gdro_comfy.data.prompts import shipped
from gdro_comfy.models import flow, loading
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.training import microbatch
from gdro_comfy.training.objectives import GDRO, Signals


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--real", action="store_true", help="SD3.5-medium and FLUX.1-dev in full")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0 is torch's own choice")
    parser.add_argument("--families", nargs="*", default=["sd3", "flux"], help="none: rollouts")
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
        steps(family, model, options)
        del model
    rollouts(device, options.rounds)


def steps(family: str, model, options: argparse.Namespace) -> None:
    """Print the table of one family."""
    k, side = options.images, options.size // 8
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(k, 16, side, side, generator=generator).to(model.device)
    noise = torch.randn(1, 16, side, side, generator=generator).to(model.device)
    sigma = torch.full((k,), 0.6, device=model.device)
    x, target = flow.interpolate(x0, noise, sigma), flow.target_velocity(x0, noise)
    cond = random_models.conditioning(model, k)
    rewards = torch.linspace(0, 1, k, device=model.device)[None]
    objective = GDRO(group_size=k)

    def errors(part: slice) -> torch.Tensor:
        some = cond.select(range(k)[part])
        return flow.velocity_error(model.velocity(x[part], sigma[part], some), target[part])

    def reference(at_once: int) -> torch.Tensor:
        with torch.no_grad(), model.reference():
            return torch.cat([errors(part) for part in microbatch.parts(k, at_once)])

    def step(at_once: int, kept: torch.Tensor | None, checkpointed: bool) -> None:
        with model.checkpointed(checkpointed):
            base = reference(at_once) if kept is None else kept
            measured = microbatch.measure(errors, k, at_once)
            drift = torch.full_like(base, torch.nan)[None]
            signals = Signals(measured.values[None], base[None], drift)
            measured.backward(objective.loss(signals, rewards).loss)

    def forward() -> None:
        with torch.no_grad():
            errors(slice(0, k))

    with model.active(), model.adapters(AdapterConfig(16, 16.0, "attention")) as parameters:
        kept = reference(k)
        ways: dict[str, Callable[[], None]] = {
            "one forward pass": forward,
            "whole group, reference kept (bank)": lambda: step(k, kept, False),
            "whole group, reference anew": lambda: step(k, None, False),
            "whole group, checkpointed": lambda: step(k, None, True),
            "2 images at once": lambda: step(2, None, False),
            "2 images at once, checkpointed": lambda: step(2, None, True),
        }
        if options.compile:
            ways["one forward pass, compiled"] = compiled(model, forward)
            ways["reference kept, compiled"] = compiled(model, lambda: step(k, kept, False))
        seconds = turns(ways, options.rounds, model.device, parameters.values())
    tokens = (side // 2) ** 2 + model.text_tokens
    kind = "as released" if options.real else "small"
    print(f"\n{family}, {kind}: {k} images of {options.size} px ({tokens} tokens each)")
    print(f"  {'':36}{'seconds':>9}{'forwards':>10}")
    for name, times in seconds.items():
        ratio = statistics.median(
            t / f for t, f in zip(times, seconds["one forward pass"], strict=True)
        )
        print(f"  {name:36}{statistics.median(times):9.3f}{ratio:10.2f}")


def compiled(model, work: Callable[[], None]) -> Callable[[], None]:
    """The work with compiled blocks: torch keeps what it has compiled from one call to the next."""

    def run() -> None:
        with model.compiled():
            work()

    return run


def turns(
    ways: dict[str, Callable[[], None]], rounds: int, device: torch.device, parameters=()
) -> dict[str, list[float]]:
    """Seconds of each way, once a round; a first round warms up and does not count."""
    parameters = list(parameters)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(rounds + 1):
        for name, way in ways.items():
            for parameter in parameters:
                parameter.grad = None
            _wait(device)
            start = time.perf_counter()
            way()
            _wait(device)
            if round_number:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def rollouts(device: torch.device, rounds: int) -> None:
    """Batches with embeddings that are kept, against diffusers' pipeline prompt by prompt."""
    model = loading.load(loading.bundled_folder("tiny SD3"), device)
    prompts = shipped("shapes_train").limit(8).prompts
    images, count = 4, 4 * 8
    shape = (16, 16, 16)
    with model.active():
        kept = model.encode(prompts)

        def ours() -> None:
            cond = kept.select([i for i in range(len(prompts)) for _ in range(images)])
            model.decode(model.sample(cond, range(count), 8, 2.0, (64, 64)))

        def plain() -> None:
            for prompt in prompts:
                model.pipeline(
                    prompt.text, num_images_per_prompt=images, num_inference_steps=8,
                    guidance_scale=2.0, height=64, width=64, max_sequence_length=0,
                    latents=seeded_noise(range(images), shape).to(device), output_type="pt",
                )  # fmt: skip

        model.pipeline.set_progress_bar_config(disable=True)
        model.pipeline.to(device)
        seconds = turns({"ours": ours, "pipeline": plain}, rounds, device)
    gain = statistics.median(
        p / o for p, o in zip(seconds["pipeline"], seconds["ours"], strict=True)
    )
    print(f"\nrollout of {count} images of 8 prompts, the bundled model, 8 steps with guidance 2")
    print(f"  {'diffusers, prompt by prompt':36}{statistics.median(seconds['pipeline']):9.3f} s")
    print(f"  {'batched over prompts, encoded once':36}{statistics.median(seconds['ours']):9.3f} s")
    print(f"  {gain:.2f} times as fast")


if __name__ == "__main__":
    main()
