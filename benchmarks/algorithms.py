"""GDRO, DGPO, DPO, ranking, best-of-group fine-tuning and Flow-GRPO with the same compute.

    python benchmarks/algorithms.py [--budget 101] [--seeds 0 1 2] [--only gdro dgpo] [--output DIR]
                                    [--pictures DIR]

All start from the bundled model and may use the same number of transformer passes, in thousands of
images: a forward counts 1 and a backward 2, rollouts are included. The offline ones share one
rollout, and each is charged for it. Printed: held-out reward and its gain with a paired 95 %
interval, the gain of the guard (how well formed the shapes are, whatever the prompt says, from 1 to
5) and of the corrected score, diversity inside groups, distance from the base, passes and seconds.
With ``--pictures`` the gains and samples of the first seed are drawn too. What is done is kept in the
output folder: a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flow_grpo
import numpy as np
import torch
from pictures import PictureReward, gain_chart, shapeliness
from PIL import Image
from torch import Tensor

from gdro_comfy import rewards
from gdro_comfy.data.aligned import TrainResult
from gdro_comfy.data.files import append_lines, read_lines, write_png, write_tensors
from gdro_comfy.data.prompts import shipped
from gdro_comfy.data.rollout import Rollout
from gdro_comfy.data.runs import RunSettings
from gdro_comfy.evaluation import report
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig, Result
from gdro_comfy.evaluation.statistics import Comparison
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.imaging import to_pil
from gdro_comfy.lora import files
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig, FlowModel
from gdro_comfy.rollouts.sample import RolloutConfig, generate, sample_prompts
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.losses import group_stats
from gdro_comfy.training.objectives import (
    DGPO,
    DPO,
    GDRO,
    Objective,
    ObjectiveResult,
    Signals,
    top1_error,
)
from gdro_comfy.training.online import Rounds
from gdro_comfy.training.train import train

GROUPS, IMAGES, STEPS, GUIDANCE = 8, 16, 8, 1.0
ADAPTER = AdapterConfig(32, 32.0, "attention+mlp")


@dataclass(frozen=True)
class BestOfGroup(Objective):
    """Supervised fine-tuning on the best image of each group; the rest of the group is not used."""

    group_size: int = 6
    draw: str = "best and worst"

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        best = top1_error(signals.errors, targets)
        stats = group_stats(-signals.errors.detach(), targets)
        return ObjectiveResult(best, stats, best.detach(), {})


class Counter:
    """Counts the model's passes, in images; one with gradients counts its backward too."""

    def __init__(self, model: FlowModel) -> None:
        self.passes = 0
        velocity = model.velocity

        def counted(x, sigma, cond):
            self.passes += len(x) * (3 if torch.is_grad_enabled() else 1)
            return velocity(x, sigma, cond)

        model.velocity = counted  # type: ignore[method-assign]


@dataclass
class Bench:
    """What the contestants share."""

    host: ConsoleHost
    model: FlowModel
    counter: Counter
    rollout: Rollout
    reward: rewards.Reward
    budget: int
    rate: float

    def steps(self, passes_per_step: int, rollouts: int = 0) -> int:
        """Optimiser steps that the budget leaves after the shared rollout and further ones."""
        shared = len(self.rollout.prompts) * IMAGES * STEPS
        return max(1, (self.budget - shared - rollouts) // passes_per_step)

    def offline(self, objective, seed: int, rate: float | None = None) -> TrainResult:
        size = objective.group_size
        settings = self.settings(self.steps(GROUPS * size * 4), seed, rate)
        return train(self.host, self.model, self.rollout, objective, settings)

    def settings(self, steps: int, seed: int, rate: float | None, groups: int = GROUPS):
        return TrainConfig(
            steps=steps,
            groups_per_step=groups,
            learning_rate=rate or self.rate,
            adapter=ADAPTER,
            preview_every=0,
            seed=seed,
        )

    def dgpo(self, seed: int) -> TrainResult:
        rounds = Rounds(rounds=6, prompts_per_round=8)
        fresh = (rounds.rounds - 1) * rounds.prompts_per_round * IMAGES * STEPS
        groups = 3
        steps = self.steps(groups * IMAGES * 5, fresh)
        settings = self.settings(steps, seed, None, groups)
        objective = DGPO(sigma_min=0.67)
        return train(self.host, self.model, self.rollout, objective, settings, rounds, self.reward)

    def flow_grpo(self, seed: int) -> TrainResult:
        """Groups of one prompt after the other, each trained on at once, until the budget is spent."""
        model, config = self.model, flow_grpo.FlowGRPO()
        prompts = self.rollout.prompts
        folder = Path(self.host.output_dir) / f"flow_grpo_{self.rate:g}_{self.budget}_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        shape = self.rollout.groups()[0].latents().shape[1:]
        start = self.counter.passes
        order = np.random.default_rng(seed).permutation(len(prompts))
        number = 0
        with torch.enable_grad(), model.active(), model.adapters(ADAPTER, seed) as parameters:
            weights = list(parameters.values())
            optimizer = torch.optim.AdamW(weights, lr=self.rate, weight_decay=0.0)
            ema = {name: p.detach().clone() for name, p in parameters.items()}

            def average() -> None:
                with torch.no_grad():
                    for name, p in parameters.items():
                        ema[name].lerp_(p, 0.1)

            while self.counter.passes - start < self.budget:
                prompt = prompts[order[number % len(order)]]
                cond = model.encode([prompt]).select([0] * IMAGES)
                seeds = [seed * 1_000_003 + number * IMAGES + i for i in range(IMAGES)]
                path = flow_grpo.sample(model, cond, seeds, shape, config)
                images = to_pil(model.decode(path.points[-1]))
                found = self.reward.score(images, [prompt] * IMAGES)
                values = torch.from_numpy(np.asarray(found.values))
                flow_grpo.update(model, optimizer, weights, path, values, config, average)
                number += 1
        target = folder / "lora.safetensors"
        write_tensors(target, files.to_file_keys(ema, ADAPTER.alpha))
        return TrainResult(target, folder, number, model.identity)


def contestants(bench: Bench) -> dict[str, Callable[[int], TrainResult]]:
    gdro = GDRO(group_size=6, beta=8.0, top1_weight=3.0, draw="best and worst")
    ranking = dataclasses.replace(gdro, temperature=0.0)
    return {
        "gdro": lambda seed: bench.offline(gdro, seed),
        "dgpo": bench.dgpo,
        "dpo": lambda seed: bench.offline(DPO(), seed),
        "ranking": lambda seed: bench.offline(ranking, seed),
        "best-of-group": lambda seed: bench.offline(BestOfGroup(), seed),
        "flow-grpo": bench.flow_grpo,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=101, help="thousands of image passes")
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of contestants")
    parser.add_argument("--output", default="output/benchmark")
    parser.add_argument("--pictures", type=Path, help="folder for gains.png and samples.png")
    options = parser.parse_args()
    host = ConsoleHost(options.output, quiet=True)
    model = loading.load(loading.bundled_folder(), host.device())
    counter = Counter(model)
    reward, guard = rewards.create("composition"), PictureReward("well formed", shapeliness)
    config = RolloutConfig(IMAGES, STEPS, GUIDANCE, run_name="algorithms")
    start = time.perf_counter()
    rollout = generate(host, model, shipped("shapes_train").limit(options.prompts), config)
    rollout = score_rollout(host, rollout, reward)
    shared = len(rollout.prompts) * IMAGES * STEPS
    print(f"shared rollout: {shared / 1000:.1f} k passes, {time.perf_counter() - start:.0f} s")
    bench = Bench(host, model, counter, rollout, reward, int(options.budget * 1000), options.rate)
    evaluation = EvaluationConfig(images_per_prompt=4, steps=STEPS, guidance=GUIDANCE)
    heldout = shipped("shapes_heldout")
    done = Path(options.output) / f"algorithms_{options.budget:g}_{options.rate:g}_{shared}.jsonl"
    found = [Row.read(saved) for saved in read_lines(done)]
    rows = {(row.name, row.seed): row for row in found}
    asked = [
        (name, seed)
        for seed in options.seeds
        for name in contestants(bench)
        if not options.only or name in options.only
    ]
    for name, seed in asked:
        if (name, seed) not in rows:
            before, start = counter.passes, time.perf_counter()
            result = contestants(bench)[name](seed)
            seconds = time.perf_counter() - start
            spent = counter.passes - before + (0 if name == "flow-grpo" else shared)
            compared = evaluate(host, model, result, heldout, reward, evaluation, guard)
            row = Row(name, seed, spent, seconds, str(result.path), compared.results[0])
            append_lines(done, [dataclasses.asdict(row)])
            rows[name, seed] = row
        print(rows[name, seed].line(), flush=True)
    print(f"\n{_HEAD}")
    chosen = [rows[key] for key in sorted(asked)]
    for row in chosen:
        print(row.line())
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
        gains: dict[str, list[Comparison]] = {}
        for row in chosen:
            gains.setdefault(row.name, []).append(row.result.comparison)
        write_png(options.pictures / "gains.png", gain_chart(gains))
        first = {row.name: row.lora for row in reversed(chosen)}
        write_png(options.pictures / "samples.png", _samples(bench, first, evaluation.seed))


def _samples(bench: Bench, trained: dict[str, str], seed: int) -> Image.Image:
    """One picture of some held-out prompts by the base and with each of these LoRA files, on the same
    seeds."""
    model, prompts = bench.model, shipped("shapes_heldout").prompts
    prompts = [prompts[place] for place in range(0, len(prompts), len(prompts) // 6)][:6]
    size = bench.rollout.run.settings.size
    settings = RunSettings(model.identity, STEPS, GUIDANCE, size, seed)

    def made() -> list[Image.Image]:
        batches = sample_prompts(bench.host, model, prompts, 1, settings)
        return [image for _, images in batches for image in images]

    with model.active():
        pictures = {"base": made()}
        for name, path in sorted(trained.items()):
            with model.with_lora(files.load(Path(path)), 1.0):
                pictures[name] = made()
    return report.side_by_side(pictures, prompts, 1, len(prompts))


_HEAD = (
    f"{'algorithm':14}{'seed':>4}{'base':>7}{'aligned':>9}{'gain':>8}{'95 % interval':>18}"
    f"{'guard':>8}{'corrected':>11}{'diversity':>16}{'drift':>8}{'k passes':>10}{'s':>6}"
)


@dataclass(frozen=True)
class Row:
    """A contestant with a seed: its passes and seconds, its LoRA's file, and what came out."""

    name: str
    seed: int
    passes: int
    seconds: float
    lora: str
    result: Result

    @classmethod
    def read(cls, saved: dict[str, Any]) -> Row:
        result = saved.pop("result")
        compared = {
            key: Comparison(**result.pop(key)) for key in ("comparison", "guard", "corrected")
        }
        return cls(**saved, result=Result(**result, **compared))

    def line(self) -> str:
        found = self.result
        c, guard, corrected = found.comparison, found.guard, found.corrected
        assert guard is not None
        assert corrected is not None
        return (
            f"{self.name:14}{self.seed:4d}{c.base:7.3f}{c.aligned:9.3f}{c.gain:+8.3f}"
            f"{f'{c.low:+.3f} to {c.high:+.3f}':>18}{guard.gain:+8.3f}{corrected.gain:+11.3f}"
            f"{f'{found.base_diversity:.3f} -> {found.diversity:.3f}':>16}{found.drift:8.4f}"
            f"{self.passes / 1000:10.1f}{self.seconds:6.0f}"
        )


if __name__ == "__main__":
    main()
