"""Show a reward that can be fooled, a training that fools it, and a guard that notices.

    python benchmarks/hacking.py [--steps 240] [--prompts 48] [--heldout 32] [--output DIR]

The reward is how colourful an image is, so filling it with colour wins, whatever the prompt says. Two
trainings run with almost nothing to hold the model back (low beta, gamma 0): one to the end, and one with the
composition reward as a guard, which stops it. Both are then evaluated.
"""

from __future__ import annotations

import argparse

from prompt_free_reward import PromptFreeReward, saturation

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
from gdro_comfy.training.validation import Validation


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--heldout", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--output", default="output/benchmark")
    options = parser.parse_args()
    host = ConsoleHost(options.output, quiet=True)
    model = loading.load(loading.bundled_folder(), host.device())
    reward, guard = PromptFreeReward("colourful", saturation), rewards.create("composition")
    sampling = {"steps": 8, "guidance": 1.0}
    config = RolloutConfig(images_per_prompt=8, run_name="hacking", **sampling)
    rollout = sample_rollout(host, model, shipped("shapes_train").limit(options.prompts), config)
    rollout = score_rollout(host, rollout, reward)
    heldout = shipped("shapes_heldout").limit(options.heldout)
    settings = TrainConfig(
        steps=options.steps,
        learning_rate=options.rate,
        adapter=AdapterConfig(32, 32.0, "attention+mlp"),
        preview_every=0,
    )
    careless = GDRO(group_size=6, beta=2.0, top1_weight=0.0, draw="best and worst")
    validation = Validation(heldout, reward, guard, every=max(1, options.steps // 12), patience=2)
    for name, watched_by in (("without a guard", None), ("with a guard", validation)):
        aligned = train(host, model, rollout, careless, settings, validation=watched_by)
        print(f"\n{name}: {aligned.steps} of {options.steps} steps")
        for row in aligned.history():
            if "validation" in row:
                v = row["validation"]
                print(
                    f"  step {row['step']:4d}  reward {v['reward']:.3f}  guard {v['guard']:.2f}  "
                    f"corrected {v['corrected']:+.3f}  (base {v['base']['reward']:.3f}, "
                    f"{v['base']['guard']:.2f}, {v['base']['corrected']:+.3f})"
                )
        evaluation = evaluate(
            host, model, aligned, heldout, reward, EvaluationConfig(2, **sampling), guard
        )
        print(evaluation.table())


if __name__ == "__main__":
    main()
