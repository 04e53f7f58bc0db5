"""Compare GDRO, DGPO, DiffusionNFT, AWM, DPO, ranking, best-of-group and Flow-GRPO on the same compute.

    python benchmarks/algorithms.py [--budget 101] [--seeds 0 1 2] [--only gdro dgpo]
                                    [--heldout 96] [--output DIR] [--pictures DIR]

All start from the bundled model and may use the same number of transformer passes, in thousands of
images. A forward pass counts 1 and a backward pass 2; sampling is included. The offline algorithms share
one rollout, and each is charged for it. Printed are the held-out reward and its gain with a paired 95 %
interval, the gain of the guard (how well formed the shapes are, whatever the prompt says, from 1 to 5) and
of the corrected score, the diversity inside groups, the distance from the base, the passes and the seconds.
With ``--pictures``, the gains and samples of the first seed are drawn too. Finished trainings are recorded
in the output folder, so an interrupted run continues where it stopped.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contestants import GUIDANCE, IMAGES, STEPS, Contest, PassCounter
from gain_chart import gain_chart
from PIL import Image
from prompt_free_reward import PromptFreeReward, shapeliness

from gdro_comfy import rewards
from gdro_comfy.data.files import append_lines, read_lines, write_png
from gdro_comfy.data.prompts import shipped
from gdro_comfy.data.runs import RunSettings
from gdro_comfy.evaluation import report
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig, Result
from gdro_comfy.evaluation.statistics import Comparison
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.lora import files
from gdro_comfy.models import loading
from gdro_comfy.rollouts.sample import RolloutConfig, sample_prompts, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout

EVALUATION = EvaluationConfig(images_per_prompt=4, steps=STEPS, guidance=GUIDANCE)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--budget", type=float, default=101, help="thousands of image passes")
    parser.add_argument("--prompts", type=int, default=192)
    parser.add_argument("--heldout", type=int, default=96)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="names of algorithms")
    parser.add_argument("--output", default="output/benchmark")
    parser.add_argument("--pictures", type=Path, help="folder for gains.png and samples.png")
    options = parser.parse_args()
    contest = start_contest(options)
    contestants = contest.contestants()
    trainings = [
        (name, seed)
        for seed in options.seeds
        for name in contestants
        if not options.only or name in options.only
    ]
    stem = (
        f"algorithms_{options.budget:g}_{options.rate:g}_{contest.shared_passes}_{options.heldout}"
    )
    path = Path(options.output) / f"{stem}.jsonl"
    rows = {(row.name, row.seed): row for row in map(Row.from_json, read_lines(path))}
    for name, seed in trainings:
        if (name, seed) not in rows:
            rows[name, seed] = train_and_evaluate(contest, name, seed, options.heldout)
            append_lines(path, [dataclasses.asdict(rows[name, seed])])
        print(rows[name, seed].line(), flush=True)
    print(f"\n{_HEAD}")
    sorted_rows = [rows[key] for key in sorted(trainings)]
    for row in sorted_rows:
        print(row.line())
    if options.pictures:
        draw_pictures(contest, sorted_rows, options.pictures)


def start_contest(options: argparse.Namespace) -> Contest:
    """Load the bundled model, and sample and score the shared rollout."""
    host = ConsoleHost(options.output, quiet=True)
    model = loading.load(loading.bundled_folder(), host.device())
    counter, reward = PassCounter(model), rewards.create("composition")
    config = RolloutConfig(IMAGES, STEPS, GUIDANCE, run_name="algorithms")
    start = time.perf_counter()
    rollout = sample_rollout(host, model, shipped("shapes_train").limit(options.prompts), config)
    rollout = score_rollout(host, rollout, reward)
    budget = int(options.budget * 1000)
    contest = Contest(host, model, counter, rollout, reward, budget, options.rate)
    seconds = time.perf_counter() - start
    print(f"shared rollout: {contest.shared_passes / 1000:.1f} k passes, {seconds:.0f} s")
    return contest


def train_and_evaluate(contest: Contest, name: str, seed: int, heldout: int) -> Row:
    """Train one contestant and compare it with the base on ``heldout`` prompts."""
    before, start = contest.counter.passes, time.perf_counter()
    aligned = contest.contestants()[name](seed)
    seconds = time.perf_counter() - start
    passes = contest.counter.passes - before
    if name != "flow-grpo":
        passes += contest.shared_passes
    evaluation = evaluate(
        contest.host,
        contest.model,
        aligned,
        shipped("shapes_heldout").limit(heldout),
        contest.reward,
        EVALUATION,
        PromptFreeReward("well formed", shapeliness),
    )
    return Row(name, seed, passes, seconds, str(aligned.path), evaluation.results[0])


def draw_pictures(contest: Contest, rows: list[Row], folder: Path) -> None:
    """Write a chart of the gains, and samples of the first seed of each contestant."""
    folder.mkdir(parents=True, exist_ok=True)
    gains: dict[str, list[Comparison]] = {}
    for row in rows:
        gains.setdefault(row.name, []).append(row.result.comparison)
    write_png(folder / "gains.png", gain_chart(gains))
    lora_paths = {row.name: row.lora for row in reversed(rows)}
    write_png(folder / "samples.png", _samples(contest, lora_paths))


def _samples(contest: Contest, lora_paths: dict[str, str]) -> Image.Image:
    """Draw six held-out prompts with the base and with each LoRA, one image each on the same seeds."""
    model, prompts = contest.model, shipped("shapes_heldout").prompts
    prompts = [prompts[index] for index in range(0, len(prompts), len(prompts) // 6)][:6]
    size = contest.rollout.run.settings.size
    settings = RunSettings(model.identity, STEPS, GUIDANCE, size, EVALUATION.seed)

    def sample() -> list[list[Image.Image]]:
        batches = sample_prompts(contest.host, model, prompts, 1, settings)
        return [[image] for _, images in batches for image in images]

    with model.active():
        columns = {"base": sample()}
        for name, path in sorted(lora_paths.items()):
            with model.with_lora(files.load(Path(path)), 1.0):
                columns[name] = sample()
    return report.sheet([prompt.text for prompt in prompts], columns)


_HEAD = (
    f"{'algorithm':14}{'seed':>4}{'base':>7}{'aligned':>9}{'gain':>8}{'95 % interval':>18}"
    f"{'guard':>8}{'corrected':>11}{'diversity':>16}{'drift':>8}{'k passes':>10}{'s':>6}"
)


@dataclass(frozen=True)
class Row:
    """The result of one contestant and seed.

    Args:
        name: Name of the contestant.
        seed: Seed of the training.
        passes: Passes used, in images.
        seconds: Duration of the training.
        lora: Path of the LoRA file.
        result: Comparison with the base.
    """

    name: str
    seed: int
    passes: int
    seconds: float
    lora: str
    result: Result

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Row:
        """Read a row that was written as ``dataclasses.asdict``."""
        fields = {**saved["result"]}
        for key in ("comparison", "guard", "corrected"):
            fields[key] = Comparison(**fields[key])
        return cls(**{**saved, "result": Result(**fields)})

    def line(self) -> str:
        """Return the row as a line of the table."""
        result = self.result
        c, guard, corrected = result.comparison, result.guard, result.corrected
        assert guard is not None
        assert corrected is not None
        return (
            f"{self.name:14}{self.seed:4d}{c.base:7.3f}{c.aligned:9.3f}{c.gain:+8.3f}"
            f"{f'{c.low:+.3f} to {c.high:+.3f}':>18}{guard.gain:+8.3f}{corrected.gain:+11.3f}"
            f"{f'{result.base_diversity:.3f} -> {result.diversity:.3f}':>16}{result.drift:8.4f}"
            f"{self.passes / 1000:10.1f}{self.seconds:6.0f}"
        )


if __name__ == "__main__":
    main()
