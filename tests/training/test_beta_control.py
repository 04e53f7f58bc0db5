"""The automatic beta: what it watches, what it does, and that it survives a restart."""

import pytest
import torch
from recording_host import RecordingHost
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.progress import Cancelled
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.beta_control import MAX_SCALE, SPREAD, BetaControl
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train

LEVELS = torch.tensor([0.1, 0.4, 0.6, 0.9])


def groups(*spreads):
    """Errors of two images a group, as far apart as twice the spread."""
    s = torch.tensor(spreads)
    return torch.stack([0.2 - s, 0.2 + s], -1), torch.full((len(spreads), 2), 0.2)


def test_holds_the_spread_in_its_range_per_noise_level():
    control = BetaControl(beta=10.0)
    assert control.scale(LEVELS).tolist() == [1, 1, 1, 1]
    # In nats: 0.2 (too little), 1 (fine), 10 (too much), and far too much.
    control.observe(LEVELS, *groups(0.02, 0.1, 1.0, 100.0))
    low, high = SPREAD
    expected = [low / 0.2, 1.0, high / 10.0, 1 / MAX_SCALE]
    assert control.scale(LEVELS).tolist() == pytest.approx(expected)


def test_follows_a_running_mean_and_levels_do_not_mix():
    control = BetaControl(beta=1.0)
    control.observe(LEVELS[:1], *groups(1.0))
    control.observe(LEVELS[:1], *groups(2.0))
    assert control.spread[0].item() == pytest.approx(1.1)
    assert control.spread[1:].isnan().all()


def test_no_spread_at_all_is_not_divided_by():
    control = BetaControl(beta=10.0)
    control.observe(LEVELS, *groups(0.0, 0.0, 0.0, 0.0))
    assert control.scale(LEVELS).tolist() == [MAX_SCALE] * 4


def test_training_with_it_goes_on_where_it_stopped(bundled_model, tmp_path):
    prompts = from_text("one red circle\ntwo blue squares\nthree green stars")
    config = TrainConfig(
        steps=6,
        groups_per_step=2,
        learning_rate=2e-3,
        adapter=AdapterConfig(rank=4, alpha=4.0),
        preview_every=0,
    )
    objective = GDRO(group_size=3, beta=10.0, auto_beta=True)

    def run(host):
        settings = RolloutConfig(images_per_prompt=4, steps=2, run_name="trial")
        rollout = sample_rollout(host, bundled_model, prompts, settings)
        rollout = score_rollout(host, rollout, RednessReward())
        return train(host, bundled_model, rollout, objective, config)

    whole = run(RecordingHost(tmp_path / "whole"))
    parts, stops = None, 0
    while parts is None and stops < 40:
        try:
            parts = run(RecordingHost(tmp_path / "parts", cancel_after=5))
        except Cancelled:
            stops += 1
    assert parts is not None
    assert stops >= 2
    a, b = whole.tensors(), parts.tensors()
    assert all(torch.equal(a[key], b[key]) for key in a)
    betas = [row["beta"] for row in whole.history()]
    assert betas[0] == pytest.approx(10.0)
    assert len(set(betas)) > 1
