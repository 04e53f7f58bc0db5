"""Training in rounds: new groups on the way, resumed like everything else."""

import numpy as np
import pytest
import torch
from recording_host import RecordingHost
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.progress import Cancelled
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import DGPO, DPO, GDRO, Objective
from gdro_comfy.training.online import Rounds
from gdro_comfy.training.train import train

PROMPTS = from_text("one red circle\ntwo blue squares\nthree green stars\none yellow star")
OBJECTIVE = DGPO(sigma_min=0.5)
ROUNDS = Rounds(rounds=3, prompts_per_round=2, images_per_prompt=3, sampling_steps=2)


def config(**changes):
    values = {
        "steps": 6,
        "groups_per_step": 2,
        "learning_rate": 2e-3,
        "warmup_steps": 1,
        "adapter": AdapterConfig(rank=4, alpha=4.0),
        "checkpoint_every": 2,
        "preview_every": 0,
    }
    return TrainConfig(**{**values, **changes})


def scored(host, model):
    settings = RolloutConfig(images_per_prompt=4, steps=2, run_name="trial")
    return score_rollout(host, sample_rollout(host, model, PROMPTS, settings), RednessReward())


def in_rounds(host, model, rollout, objective: Objective = OBJECTIVE, rounds=ROUNDS, **changes):
    return train(host, model, rollout, objective, config(**changes), rounds, reward=RednessReward())


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


def test_each_round_is_a_run_that_can_be_looked_at(bundled_model, host, rollout):
    result = in_rounds(host, bundled_model, rollout)
    folders = sorted((result.folder / "rounds").iterdir())
    assert [folder.name for folder in folders] == ["01", "02"]
    for folder in folders:
        assert (folder / "run.json").is_file()
        assert len(list(folder.glob("prompts/*/*.png"))) == 2 * 3
        assert len(list(folder.glob("scores/*.jsonl"))) == 1
    assert [row["step"] for row in result.history()] == [1, 2, 3, 4, 5, 6]


def test_later_rounds_are_sampled_by_the_model_in_training(bundled_model, host, rollout):
    def pictures(rate):
        result = in_rounds(host, bundled_model, rollout, steps=12, learning_rate=rate)
        found = sorted((result.folder / "rounds" / "02").glob("prompts/*/*.png"))
        return [path.read_bytes() for path in found]

    still, moved = pictures(1e-12), pictures(2e-2)
    assert len(still) == len(moved) == 2 * 3
    assert still != moved


def test_a_training_stopped_in_any_round_goes_on_to_the_same_lora(bundled_model, tmp_path):
    whole_host = RecordingHost(tmp_path / "whole")
    whole = in_rounds(whole_host, bundled_model, scored(whole_host, bundled_model))
    start = RecordingHost(tmp_path / "parts")
    rollout = scored(start, bundled_model)
    parts, stops = None, 0
    while parts is None and stops < 60:
        host = RecordingHost(tmp_path / "parts", cancel_after=7)
        try:
            parts = in_rounds(host, bundled_model, rollout)
        except Cancelled:
            stops += 1
    assert parts is not None
    assert stops >= 3
    a, b = whole.tensors(), parts.tensors()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert [r["loss"] for r in whole.history()] == [r["loss"] for r in parts.history()]


def test_gdro_in_rounds_and_offline_differ(bundled_model, host, rollout):
    gdro = GDRO(group_size=3)
    offline = train(host, bundled_model, rollout, gdro, config())
    online = in_rounds(host, bundled_model, rollout, gdro)
    assert offline.path != online.path
    assert [r["loss"] for r in offline.history()[:2]] == [r["loss"] for r in online.history()[:2]]
    assert offline.history()[-1]["loss"] != online.history()[-1]["loss"]


def test_dgpo_learns_to_prefer_the_better_images(bundled_model, host, rollout):
    settings = config(steps=40, groups_per_step=4, learning_rate=5e-3)
    objective = DGPO(beta=100.0, clip=0.05, sigma_min=0.3)
    rows = train(host, bundled_model, rollout, objective, settings).history()
    assert np.mean([row["accuracy"] for row in rows[-10:]]) > 0.7
    assert rows[0]["clipped"] == 0
    assert rows[-1]["drift"] > 0


def test_dpo_uses_two_images_of_a_group(bundled_model, host, rollout):
    rows = train(host, bundled_model, rollout, DPO(beta=50.0), config()).history()
    assert rows[0]["loss"] == pytest.approx(np.log(2), rel=1e-6)
    assert rows[0]["images"] == 2 * 2


def test_rounds_without_a_reward_are_refused(bundled_model, host, rollout):
    with pytest.raises(InputError, match="^reward: 3 rounds need it"):
        train(host, bundled_model, rollout, OBJECTIVE, config(), ROUNDS)
    assert not (rollout.run.folder / "train").exists()


@pytest.mark.parametrize(
    ("changes", "name"),
    [({"rounds": 7}, "rounds"), ({"images_per_prompt": 1}, "images_per_prompt")],
)
def test_rounds_that_cannot_be_are_refused(bundled_model, host, rollout, changes, name):
    with pytest.raises(InputError) as caught:
        in_rounds(host, bundled_model, rollout, rounds=Rounds(**{"rounds": 3, **changes}))
    assert caught.value.input_name == name


def test_training_ends_when_new_groups_teach_nothing(bundled_model, host, rollout):
    class Pleased(RednessReward):
        def score(self, images, prompts, check_cancelled=lambda: None):
            found = super().score(images, prompts, check_cancelled)
            found.values[:] = 1.0
            return found

    result = train(
        host, bundled_model, rollout, OBJECTIVE, config(), ROUNDS, reward=Pleased(scale=1.0)
    )
    assert result.steps == 2
    assert result.path.is_file()
