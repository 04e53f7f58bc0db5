"""What a training is for: the values that GDRO Train LoRA's purposes set, stated once.

The canvas gets the table with the node's definition, sets the node's widgets by it, and reads from their
values which purpose they have: a purpose is never a value of a workflow. What depends on the model is in none
of them (learning rate, layers, rank, memory), and neither is the seed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .base import Input

STRENGTH_INPUTS = {"gdro": "beta", "dgpo": "kl", "dpo": "beta", "nft": "beta", "awm": "old_kl"}
"""What holds a training of each algorithm back, and so is its strength of change."""

STRENGTHS = {"gentle": 2.0, "normal": 1.0, "strong": 0.5}
"""By what each strength of change multiplies that value of a purpose.

Half of it is the step in the paper's ablation, where text with beta 6 instead of 12 rises faster, and then
fools the reward (METHOD.md). Twice is the same step to the other side, and not measured; at ten times,
a training stops early (FINDINGS.md: beta 100 against 10).
"""


@dataclass(frozen=True)
class Purpose:
    """One purpose: its key on the canvas, values of widgets by name, and the inputs that it needs linked."""

    key: str
    values: Mapping[str, Any]
    needs: tuple[str, ...] = ()


# METHOD.md: the paper draws the noise level over the whole range, and trains with an average of the weights.
_PAPER = {"ema_decay": 0.9, "sigma_sampler": "uniform", "sigma_min": 0.0, "sigma_max": 1.0}
_OFFLINE = {"algorithm": "gdro", "algorithm.group_size": 6, "algorithm.rounds": 1, **_PAPER}
# benchmarks/RESULTS.md, "The algorithms compared": best and worst of 16, beta 8 and gamma 3 gain most on the
# bundled model.
_SMALL = {
    **_OFFLINE, "groups_per_step": 8, "algorithm.beta": 8.0, "algorithm.temperature": 0.05,
    "algorithm.top1_weight": 3.0, "algorithm.draw": "best and worst",
}  # fmt: skip
# METHOD.md, the paper's table, as in the workflows for real models: four groups in each of 400 steps.
_PUBLISHED = {
    **_OFFLINE, "steps": 400, "groups_per_step": 4, "algorithm.temperature": 0.05,
    "algorithm.draw": "random",
}  # fmt: skip

PURPOSES = (
    # The quickstart: 5 minutes 35 seconds on a CPU with 2 cores, pictures included, for a gain of +0.101
    # (README.md). The second of its two rounds draws new groups, which the reward scores.
    Purpose(
        "a few minutes",
        {
            **_SMALL,
            "steps": 400,
            "algorithm.rounds": 2,
            "algorithm.prompts_per_round": 96,
            "algorithm.images_per_prompt": 0,
        },
        ("reward",),
    ),
    # The paper's rows for text and for composition (METHOD.md); about 7 hours for FLUX.1-dev at 512 pixels on
    # a card that does 50 TFLOP a second, groups and evaluation included (estimated in flux1_dev_signs).
    Purpose("an evening", {**_PUBLISHED, "algorithm.beta": 12.0, "algorithm.top1_weight": 0.5}),
    Purpose(
        "an evening, composition",
        {**_PUBLISHED, "algorithm.beta": 6.0, "algorithm.top1_weight": 1.0},
    ),
    # METHOD.md, "DGPO's variant without guidance, as published", as in sd35_medium_dgpo_composition: each
    # step trains on new groups. It takes as many steps as a card of a creator's does in a night.
    Purpose(
        "online",
        {
            **_PAPER,
            "algorithm": "dgpo",
            "algorithm.rounds": 96,
            "algorithm.prompts_per_round": 8,
            "algorithm.images_per_prompt": 0,
            "algorithm.sampling_steps": 10,
            "algorithm.weights": "current",
            "algorithm.beta": 100.0,
            "algorithm.kl": 0.02,
            "algorithm.clip": 0.001,
            "algorithm.sigma_min": 0.82,
            "algorithm.advantage_scale": "group",
            "algorithm.reference_guidance": 4.5,
            "algorithm.noise_levels": 4,
            "algorithm.ema_every": 8,
            "steps": 96,
            "groups_per_step": 8,
        },
        ("reward",),
    ),
    # The workflow rate_by_hand: whoever rates has tens of groups and not hundreds, so it takes fewer steps.
    Purpose("my ratings", {**_SMALL, "steps": 160}),
)


def for_canvas(choices: Mapping[str, tuple[Input, ...]]) -> dict[str, Any]:
    """Return the table as the canvas gets it, for these inputs of each algorithm."""
    return {
        "purposes": [dataclasses.asdict(purpose) for purpose in PURPOSES],
        "strength_inputs": {name: f"algorithm.{STRENGTH_INPUTS[name]}" for name in choices},
        "strengths": STRENGTHS,
    }


def folded(choices: Mapping[str, tuple[Input, ...]]) -> dict[str, tuple[Input, ...]]:
    """Return the inputs of each choice behind "advanced": the purpose and the strength stand for them."""
    return {
        key: tuple(dataclasses.replace(declared, advanced=True) for declared in inputs)
        for key, inputs in choices.items()
    }
