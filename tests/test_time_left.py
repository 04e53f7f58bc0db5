"""The estimate of the time left, as the stages report it."""

import itertools

import pytest
from small_reward import RednessReward

from gdro_comfy import time_left
from gdro_comfy.data.prompts import from_text
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts import sample, scoring
from gdro_comfy.time_left import TimeLeft, duration
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12, "10 s"), (88, "90 s"), (100, "2 min"), (740, "12 min"), (5300, "88 min"), (7200, "2 h"),
     (12100, "3 h 20 min"), (14390, "4 h")],
)  # fmt: skip
def test_durations_are_rounded(seconds, text):
    assert duration(seconds) == text


def test_the_estimate_ignores_the_first_items():
    now = iter((100.0, 107.0, 114.0))
    estimate = TimeLeft(total=104, clock=lambda: next(now))
    assert estimate.suffix(2) == ""
    assert estimate.suffix(3) == ", about 12 min left"
    assert estimate.suffix(103) == ""


def test_sampling_scoring_and_training_report_it_from_their_second_batch_on(
    bundled_model, host, monkeypatch
):
    ticks = itertools.count(step=60)
    monkeypatch.setattr(time_left.TimeLeft.__init__, "__defaults__", (lambda: float(next(ticks)),))
    prompts = from_text("one red circle\ntwo blue squares")
    config = sample.RolloutConfig(images_per_prompt=3, steps=1, batch_size=1)
    rollout = sample.sample_rollout(host, bundled_model, prompts, config)
    stages = [stage for stage, value, _ in host.reports if value == 4]
    assert "sampling groups, about 2 min left" in stages
    assert host.reports[-1] == ("sampling groups", 6, 6)
    monkeypatch.setattr(scoring, "_BATCH", 2)
    scored = scoring.score_rollout(host, rollout, RednessReward())
    assert ("scoring, redness, about 60 s left", 4, 6) in host.reports
    objective = GDRO(group_size=3)
    train(host, bundled_model, scored, objective, TrainConfig(steps=3, adapter=AdapterConfig(4)))
    # The last step reports a second time, with its preview.
    assert host.reports[-3] == ("training, about 60 s left", 2, 3)
    assert host.reports[-2:] == [("training", 3, 3)] * 2
