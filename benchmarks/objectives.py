"""GDRO against best-of-group fine-tuning, on the same groups, steps and seeds.

    python benchmarks/objectives.py [--prompts 128] [--steps 240] [--output DIR] [--seeds 0]

Both train on the same scored rollout of the bundled model with the same optimiser and number of
images a step; both are evaluated on the same held-out prompts and seeds. Best-of-group fine-tuning
is flow matching on each group's best image, with the noise drawn anew for each of its k copies.
"""

from __future__ import annotations

import argparse
import dataclasses
import time

from torch import Tensor

from gdro_comfy import rewards
from gdro_comfy.algorithms import GDRO, ObjectiveResult, top1_error
from gdro_comfy.evaluate import EvaluationConfig, evaluate
from gdro_comfy.host import ConsoleHost
from gdro_comfy.losses import GroupStats
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.prompts import shipped
from gdro_comfy.rollout import RolloutConfig, generate
from gdro_comfy.scoring import score_rollout
from gdro_comfy.train import TrainConfig, train


@dataclasses.dataclass(frozen=True)
class BestOfGroup:
    """Supervised fine-tuning on the best image of each group; the rest of the group is not used."""

    group_size: int = 6
    draw: str = "best and worst"

    def loss(self, errors: Tensor, reference_errors: Tensor, rewards: Tensor) -> ObjectiveResult:
        best = top1_error(errors, rewards)
        nothing = errors.detach().mean() * 0
        return ObjectiveResult(best, GroupStats(nothing, nothing), best.detach(), best.detach())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--rate", type=float, default=7e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", default="output/benchmark")
    options = parser.parse_args()
    host = ConsoleHost(options.output, quiet=True)
    model = loading.load(loading.bundled_folder("tiny SD3, shapes"), host.device())
    reward = rewards.create("composition")
    config = RolloutConfig(images_per_prompt=16, steps=8, guidance=2.0, run_name="objectives")
    rollout = generate(host, model, shipped("shapes_train").limit(options.prompts), config)
    rollout = score_rollout(host, rollout, reward)
    heldout = shipped("shapes_heldout")
    objectives = {
        "GDRO": GDRO(group_size=6, beta=30.0, top1_weight=4.0, draw="best and worst"),
        "best of group": BestOfGroup(),
    }
    rows = []
    for seed in options.seeds:
        for name, objective in objectives.items():
            settings = TrainConfig(
                steps=options.steps,
                learning_rate=options.rate,
                adapter=AdapterConfig(32, 32.0, "attention+mlp"),
                preview_every=0,
                seed=seed,
            )
            start = time.perf_counter()
            result = train(host, model, rollout, objective, settings)
            seconds = time.perf_counter() - start
            evaluation = EvaluationConfig(images_per_prompt=4, steps=8, guidance=2.0)
            found = evaluate(host, model, result, heldout, reward, evaluation).comparison
            errors = [row["top_error"] for row in result.history()]
            rows.append((name, seed, found, seconds, sum(errors[-20:]) / len(errors[-20:])))
    print(
        f"\n{'objective':16}{'seed':>5}{'base':>8}{'aligned':>9}{'gain':>8}{'+-':>7}{'top-1 err':>11}{'s':>7}"
    )
    for name, seed, found, seconds, error in rows:
        print(
            f"{name:16}{seed:5d}{found.base:10.3f}{found.aligned:10.3f}{found.gain:+10.3f}"
            f"{found.gain_error:10.3f}{error:10.3f}{seconds:10.0f}"
        )


if __name__ == "__main__":
    main()
