"""A reward that can be fooled, a training that fools it, and the guard that sees it.

    python benchmarks/hacking.py [--steps 240] [--output DIR]

The reward is how colourful a picture is: filling it with colour wins, whatever the prompt says. It is
trained with next to nothing that holds the model back (beta and gamma near 0), twice: to the end, and
with the composition reward as the guard, which stops the training. Both are then evaluated.
"""

from __future__ import annotations

import argparse

from pictures import PictureReward, saturation

from gdro_comfy import rewards
from gdro_comfy.data.prompts import shipped
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts.sample import RolloutConfig, generate
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
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--output", default="output/benchmark")
    options = parser.parse_args()
    host = ConsoleHost(options.output, quiet=True)
    model = loading.load(loading.bundled_folder(), host.device())
    reward, guard = PictureReward("colourful", saturation), rewards.create("composition")
    sampling = {"steps": 8, "guidance": 1.0}
    config = RolloutConfig(images_per_prompt=8, run_name="hacking", **sampling)
    rollout = generate(host, model, shipped("shapes_train").limit(48), config)
    rollout = score_rollout(host, rollout, reward)
    heldout = shipped("shapes_heldout").limit(32)
    settings = TrainConfig(
        steps=options.steps,
        learning_rate=options.rate,
        adapter=AdapterConfig(32, 32.0, "attention+mlp"),
        preview_every=0,
    )
    careless = GDRO(group_size=6, beta=2.0, top1_weight=0.0, draw="best and worst")
    for name, patience in (("without a guard", 0), ("with a guard", 2)):
        validation = Validation(
            heldout, reward, guard, every=options.steps // 12, patience=patience
        )
        watch = validation if patience else None
        result = train(host, model, rollout, careless, settings, validation=watch)
        print(f"\n{name}: {result.steps} of {options.steps} steps")
        for row in result.history():
            if "validation" in row:
                v = row["validation"]
                print(
                    f"  step {row['step']:4d}  reward {v['reward']:.3f}  guard {v['guard']:.2f}  "
                    f"corrected {v['corrected']:+.3f}  (base {v['base']['reward']:.3f}, "
                    f"{v['base']['guard']:.2f}, {v['base']['corrected']:+.3f})"
                )
        found = evaluate(
            host, model, result, heldout, reward, EvaluationConfig(2, **sampling), guard
        )
        print(found.table())


if __name__ == "__main__":
    main()
