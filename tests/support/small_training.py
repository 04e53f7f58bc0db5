"""A training that takes a second: four prompts with four images each, six steps."""

import torch
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO

PROMPTS = from_text("one red circle\ntwo blue squares\nthree green stars\none yellow star")
ADAPTER = AdapterConfig(rank=4, alpha=4.0, target="attention")
OBJECTIVE = GDRO(group_size=3, beta=10.0, temperature=0.05, top1_weight=0.5)


def config(**changes):
    values = {
        "steps": 6,
        "groups_per_step": 2,
        "learning_rate": 1e-3,
        "warmup_steps": 2,
        "adapter": ADAPTER,
        "checkpoint_every": 2,
        "preview_every": 0,
    }
    return TrainConfig(**{**values, **changes})


def scored(host, model):
    rollout = sample_rollout(
        host, model, PROMPTS, RolloutConfig(images_per_prompt=4, steps=2, run_name="trial")
    )
    return score_rollout(host, rollout, RednessReward())


def assert_same_lora(one, other):
    """Compare bit for bit; only the order of the file's header fields may differ."""
    a, b = one.tensors(), other.tensors()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
