"""Measure where the time of the quickstart goes, on the bundled model.

    python benchmarks/quickstart.py [--prompts 16] [--steps 12] [--threads N]

Runs a rollout, its scoring and some training steps on the GPU or CPU, and prints the median seconds of each
part: per image for the rollout and the reward, per step for the training.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from unittest import mock

import torch

from gdro_comfy import rewards
from gdro_comfy.data.groups import Group
from gdro_comfy.data.prompts import shipped
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train


class Clock:
    """Seconds spent in wrapped functions, by name."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def wrap(
        self, call: Callable, name: Callable[[], str], size: Callable = lambda *args: 1
    ) -> Callable:
        """Return a function that does the same and records its seconds.

        Args:
            call: The function to time.
            name: Returns the name to record under, when the function is called.
            size: Returns the number of items that the seconds are divided by, from the arguments.
        """

        @wraps(call)
        def timed(*args, **kwargs):
            self._wait()
            label, start = name(), time.perf_counter()
            result = call(*args, **kwargs)
            self._wait()
            self.seconds[label].append((time.perf_counter() - start) / size(*args))
            return result

        return timed

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's default")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        host = ConsoleHost(folder, quiet=True)
        clock = Clock(host.device())
        measure(host, clock, options.prompts, options.steps)
    report(clock)


def measure(host: ConsoleHost, clock: Clock, prompts: int, steps: int) -> None:
    """Run the quickstart's stages with their parts wrapped by the clock."""
    model = loading.load(loading.bundled_folder("tiny SD3"), host.device())
    model.sample = clock.wrap(model.sample, lambda: "sampling", lambda cond, *_: len(cond))
    model.decode = clock.wrap(model.decode, lambda: "decoding", len)
    sampling = RolloutConfig(images_per_prompt=16, steps=8, guidance=1.0, run_name="benchmark")
    add = clock.wrap(
        Group.add, lambda: "writing", lambda group, start, latents, *rest: len(latents)
    )
    with mock.patch.object(Group, "add", add):
        rollout = sample_rollout(host, model, shipped("shapes_train").limit(prompts), sampling)

    reward = rewards.create("composition")
    reward.score = clock.wrap(reward.score, lambda: "reward", lambda images, *_: len(images))
    rollout = score_rollout(host, rollout, reward)

    model.velocity = clock.wrap(
        model.velocity,
        lambda: "policy forward" if torch.is_grad_enabled() else "reference forward",
    )
    objective = GDRO(group_size=6, beta=8.0, top1_weight=3.0, draw="best and worst")
    settings = TrainConfig(
        steps=steps,
        adapter=AdapterConfig(32, 32.0, "attention+mlp"),
        preview_every=0,
        checkpoint_every=0,
    )
    backward = clock.wrap(torch.Tensor.backward, lambda: "backward")
    with mock.patch.object(torch.Tensor, "backward", backward):
        result = train(host, model, rollout, objective, settings)
    clock.seconds["whole step"] = [row["seconds"] for row in result.history()]


def report(clock: Clock) -> None:
    """Print the medians."""
    median = {name: statistics.median(values) for name, values in clock.seconds.items()}
    step = ("reference forward", "policy forward", "backward")
    median["rest of the step"] = median["whole step"] - sum(median[name] for name in step)
    device = torch.cuda.get_device_name() if clock.device.type == "cuda" else "CPU"
    print(f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}; medians\n")
    print(f"{'per image':24}{'seconds':>10}")
    for name in ("sampling", "decoding", "writing", "reward"):
        print(f"  {name:22}{median[name]:10.4f}")
    print(f"\n{'per step of 48 images':24}{'seconds':>10}{'share':>8}")
    for name in (*step, "rest of the step", "whole step"):
        print(f"  {name:22}{median[name]:10.4f}{median[name] / median['whole step']:8.0%}")


if __name__ == "__main__":
    main()
