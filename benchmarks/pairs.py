"""Compare points with pairs for a judge that has noise and prefers the first picture it sees.

    python benchmarks/pairs.py [--groups 60] [--images 6] [--spread 0.12]

The judge is scripted: it sees how light an image is, misjudged by noise, and in pairs takes the first image
for lighter than it is by the bias. "order" is the rank correlation with the true lightness inside a group,
"best" how much lighter the image with the highest reward is than its group, both as means over groups. Points
are whole numbers from 1 to 5, without a bias: they have no first picture.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from gdro_comfy import rewards
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.rewards.pair_rubric import comparison
from gdro_comfy.rewards.rubric import question

sys.path.append(str(Path(__file__).parents[1] / "tests" / "support"))
from scripted_judge import ScriptedJudge, grey, ranking_quality, rollout_of


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--groups", type=int, default=60)
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--spread", type=float, default=0.12)
    options = parser.parse_args()
    count = options.images
    noise_of_levels = np.random.default_rng(0).standard_normal((options.groups, count))
    levels = np.clip(0.5 + options.spread * noise_of_levels, 0, 1)
    groups = [[grey(level, 4) for level in row] for row in levels]

    def points(judge: ScriptedJudge) -> np.ndarray:
        reward = rewards.create("vlm", rubric=question("How light is {prompt}?"), judge=judge)
        rows = [
            reward.score(images, [Prompt(f"group {i}")] * count) for i, images in enumerate(groups)
        ]
        return np.stack([row.values for row in rows])

    def pairs(judge: ScriptedJudge, orders: str) -> np.ndarray:
        rubric = comparison("Which is lighter, as {prompt}?")
        reward = rewards.create(
            "pairwise", rubric=rubric, judge=judge, opponents=count - 1, orders=orders
        )
        scored = reward.score_groups(rollout_of(groups), lambda part: part)  # type: ignore[attr-defined]
        return scored.values.reshape(-1, count)

    print(f"{options.groups} groups of {count}, lightness 0.5 +- {options.spread:g}\n")
    print("noise  bias   points         balanced pairs both orders")
    print("              order   best   order   best   order   best")
    for noise in (0.05, 0.15):
        for bias in (0.0, 0.1, 0.3, 0.6):
            judges = [ScriptedJudge(noise), *(ScriptedJudge(noise, bias) for _ in range(2))]
            values = [
                points(judges[0]), pairs(judges[1], "balanced"), pairs(judges[2], "both"),
            ]  # fmt: skip
            cells = []
            for rows in values:
                best = levels[np.arange(len(rows)), rows.argmax(1)] - levels.mean(1)
                cells.append(f"{ranking_quality(rows, levels):5.2f} {best.mean():+.3f}")
            print(f"{noise:5.2f} {bias:5.2f}   {'   '.join(cells)}")
    pair_count = count * (count - 1) // 2
    print(f"\nquestions a group: {count}, {pair_count} and {2 * pair_count}")


if __name__ == "__main__":
    main()
