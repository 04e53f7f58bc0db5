"""Validation while training: it measures, keeps the best weights, and sees a fooled reward."""

import json
import re

import numpy as np
import pytest
import torch
from recording_host import RecordingHost
from small_reward import RednessReward

from gdro_comfy.data.prompts import PromptSet, from_text
from gdro_comfy.errors import InputError
from gdro_comfy.lora import files
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards.base import RewardResult
from gdro_comfy.rewards.guard import corrected_score, guard_scale
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train
from gdro_comfy.training.validation import Validation

PROMPTS = from_text("one red circle\ntwo blue squares\nthree green stars\none yellow star")
OTHERS = from_text("one blue circle\ntwo red squares")
CONFIG = TrainConfig(
    steps=12,
    groups_per_step=2,
    learning_rate=2e-3,
    warmup_steps=1,
    adapter=AdapterConfig(rank=4, alpha=4.0),
    checkpoint_every=2,
    preview_every=0,
)


class Scripted:
    """A reward that says what it is told, one number a call (the base is measured first)."""

    range = (0.0, 1.0)

    def __init__(self, *values, name="scripted"):
        self.name, self.values, self.settings = name, list(values), {"values": list(values)}

    def check_prompts(self, prompts):
        pass

    def score(self, images, prompts, check_cancelled=lambda: None):
        return RewardResult(np.full(len(images), self.values.pop(0), dtype=np.float32))


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


def scored(host, model):
    settings = RolloutConfig(images_per_prompt=4, steps=2, run_name="trial")
    return score_rollout(host, sample_rollout(host, model, PROMPTS, settings), RednessReward())


def run(host, model, rollout, reward, guard=None, every=2, **changes):
    watch = Validation(OTHERS, reward, guard, every, images_per_prompt=1, **changes)
    return train(host, model, rollout, GDRO(group_size=3), CONFIG, validation=watch)


def measured(result):
    return {r["step"]: r["validation"] for r in result.history() if "validation" in r}


def test_corrected_score_by_hand():
    assert guard_scale(np.array([0.0, 0.5, 1.0, 7.0]), (0.0, 1.0)).tolist() == [1, 3, 5, 5]
    found = corrected_score(np.array([0.5, 0.8, 0.9]), np.array([3.0, 4.0, 2.0]))
    assert found.tolist() == pytest.approx([0.2, 1.0, -0.7])
    with pytest.raises(InputError, match="guard: its range"):
        guard_scale(np.zeros(1), (0.0, np.inf))


def test_measures_base_and_model_at_the_asked_steps(bundled_model, host, rollout):
    reward, guard = Scripted(0.2, *[0.3] * 6), Scripted(0.5, *[0.75] * 6, name="guard")
    result = run(host, bundled_model, rollout, reward, guard)
    found = measured(result)
    assert list(found) == [2, 4, 6, 8, 10, 12]
    assert found[2] == {
        "reward": pytest.approx(0.3),
        "guard": pytest.approx(4.0),
        "corrected": pytest.approx(0.5),
        "base": {
            "reward": pytest.approx(0.2),
            "guard": pytest.approx(3.0),
            "corrected": pytest.approx(0.2),
        },
    }
    folder = result.folder / "validation"
    assert {p.name for p in folder.glob("*.png")} >= {"base.png", "step_00002.png"}


def test_real_rewards_see_the_model_move(bundled_model, host, rollout):
    found = measured(run(host, bundled_model, rollout, RednessReward(), every=6))
    assert found[12]["base"] == found[6]["base"]
    assert len({found[6]["base"]["reward"], found[6]["reward"], found[12]["reward"]}) == 3


def test_keeps_the_weights_of_the_best_measurement(bundled_model, tmp_path):
    loras = {}
    for best in (4, 12):
        host = RecordingHost(tmp_path / str(best))
        values = [0.1 + 0.5 * (step == best) for step in (2, 4, 6, 8, 10, 12)]
        result = run(host, bundled_model, scored(host, bundled_model), Scripted(0.1, *values))
        assert result.steps == 12
        loras[best] = result.tensors()
    whole = RecordingHost(tmp_path / "whole")
    plain = train(whole, bundled_model, scored(whole, bundled_model), GDRO(group_size=3), CONFIG)
    same = [torch.equal(loras[12][key], tensor) for key, tensor in plain.tensors().items()]
    assert all(same)
    assert not all(torch.equal(loras[4][key], loras[12][key]) for key in loras[4])


def test_stops_when_the_reward_is_fooled(bundled_model, host, rollout, caplog):
    reward = Scripted(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    guard = Scripted(0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.1, name="guard")
    result = run(host, bundled_model, rollout, reward, guard)
    assert result.steps == 8  # best at 4, then two measurements with more reward for less quality
    assert "weights of step 4 are kept\n" in caplog.text
    weights, meta = files.load(result.path), json.loads((result.folder / "done.json").read_text())
    assert weights.modules
    assert meta["steps"] == 8


def test_says_so_where_even_the_best_weights_are_worse_than_the_base(
    bundled_model, host, rollout, caplog
):
    reward = Scripted(0.3, 0.4, 0.5, 0.6)
    guard = Scripted(1.0, 0.6, 0.3, 0.1, name="guard")
    run(host, bundled_model, rollout, reward, guard)
    assert re.search(r"weights of step 2 are kept, though the base itself has 0\.\d+", caplog.text)


def test_goes_on_while_both_rise_or_both_fall(bundled_model, host, rollout):
    reward = Scripted(0.3, 0.4, 0.3, 0.2, 0.1, 0.1, 0.1)
    guard = Scripted(0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, name="guard")
    assert run(host, bundled_model, rollout, reward, guard).steps == 12


def test_one_prompt_that_falls_does_not_stop_it(bundled_model, host, rollout):
    """The means rise and fall as in a fooled reward, but only one prompt of the two moves."""

    class OnePrompt(Scripted):
        def score(self, images, prompts, check_cancelled=lambda: None):
            found = super().score(images, prompts).values
            return RewardResult(np.array([found[0], 0.5], dtype=np.float32))

    reward = OnePrompt(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    guard = OnePrompt(0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.1, name="guard")
    assert run(host, bundled_model, rollout, reward, guard).steps == 12


@pytest.mark.parametrize("earlier_version", [False, True])
def test_sees_a_fooled_reward_across_an_interruption(bundled_model, host, rollout, earlier_version):
    scripts = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9), (0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.1)
    reward, guard = Scripted(*scripts[0]), Scripted(*scripts[1], name="guard")
    rest = reward.values[4:], guard.values[4:]
    reward.values, guard.values = reward.values[:4], guard.values[:4]
    with pytest.raises(IndexError):
        run(host, bundled_model, rollout, reward, guard)
    if earlier_version:  # it stored no scores of prompts
        for path in rollout.run.folder.rglob("validation/*.json"):
            if path.name != "base.json":
                path.unlink()
    reward.values, guard.values = rest
    assert run(host, bundled_model, rollout, reward, guard).steps == (12 if earlier_version else 8)


def test_without_patience_it_never_stops(bundled_model, host, rollout):
    reward = Scripted(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    guard = Scripted(0.8, 0.8, 0.8, 0.6, 0.4, 0.2, 0.1, name="guard")
    assert run(host, bundled_model, rollout, reward, guard, patience=0).steps == 12


def test_a_cancelled_training_measures_what_an_unbroken_one_does(bundled_model, tmp_path):
    whole_host = RecordingHost(tmp_path / "whole")
    whole = run(whole_host, bundled_model, scored(whole_host, bundled_model), RednessReward())
    rollout = scored(RecordingHost(tmp_path / "parts"), bundled_model)
    parts, stops = None, 0
    while parts is None and stops < 60:
        host = RecordingHost(tmp_path / "parts", cancel_after=9)
        try:
            parts = run(host, bundled_model, rollout, RednessReward())
        except Cancelled:
            stops += 1
    assert parts is not None
    assert stops >= 3
    assert measured(parts) == measured(whole)
    a, b = whole.tensors(), parts.tensors()
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_no_validation_prompts_are_refused(bundled_model, host, rollout):
    watch = Validation(PromptSet((), "none"), RednessReward())
    with pytest.raises(InputError, match="^validation_prompts"):
        train(host, bundled_model, rollout, GDRO(group_size=3), CONFIG, validation=watch)
