"""Compare new noise in every step with fixed noise draws whose reference errors are cached.

    python benchmarks/reference_draws.py [--draws 0 1 4] [--steps 240] [--seeds 2] [--prompts 96]
                                         [--heldout 96] [--output DIR]

Trains the bundled model on shapes, offline, with the quickstart's settings, and prints the seconds per step,
the share of reference passes saved and the gain. ``--draws 0`` is new noise in every step. Each seed trains
all variants in turn, so that they meet the same load of the machine.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

import torch

from gdro_comfy import rewards
from gdro_comfy.data.prompts import shipped
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train

OBJECTIVE = GDRO(beta=8.0, top1_weight=3.0, draw="best and worst")
EVALUATION = EvaluationConfig(images_per_prompt=4, steps=8)
ADAPTER = AdapterConfig(32, 32.0, "attention+mlp")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 4])
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--heldout", type=int, default=96)
    parser.add_argument("--output", type=Path, default=Path("output/benchmark"))
    options = parser.parse_args()
    host = ConsoleHost(options.output, quiet=True)
    model = loading.load(loading.bundled_folder("tiny SD3"), host.device())
    reward = rewards.create("composition", strict=True)
    prompts = shipped("shapes_train").limit(options.prompts)
    heldout = shipped("shapes_heldout").limit(options.heldout)
    sampling = RolloutConfig(images_per_prompt=16, steps=8, run_name="reference_draws")
    rollout = score_rollout(host, sample_rollout(host, model, prompts, sampling), reward)
    print(f"{options.steps} steps of 8 groups of 6 images, {len(prompts)} prompts x 16, on the "
          f"{host.device().type}, {torch.get_num_threads()} threads\n")  # fmt: skip
    print(f"{'draws':>6}{'seed':>6}{'s / step':>10}{'saved':>8}   gain on held-out prompts")
    for seed in range(options.seeds):
        for draws in options.draws:
            config = TrainConfig(
                steps=options.steps, learning_rate=1e-3, adapter=ADAPTER, preview_every=0, seed=seed,
                reference_draws=draws,
            )  # fmt: skip
            aligned = train(host, model, rollout, OBJECTIVE, config)
            history = aligned.history()
            seconds = statistics.median(row["seconds"] for row in history)
            saved = statistics.mean(row["reference_kept"] or 0.0 for row in history)
            evaluation = evaluate(host, model, aligned, heldout, reward, EVALUATION)
            comparison = evaluation.results[0].comparison
            print(f"{draws:6d}{seed:6d}{seconds:10.3f}{saved:8.0%}   {comparison.gain:+.3f} +- "
                  f"{comparison.gain_error:.3f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
