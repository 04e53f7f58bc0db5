"""How long is left, as it is said on the node."""

import itertools

import pytest
from small_reward import RednessReward

from gdro_comfy import time_left
from gdro_comfy.data.prompts import from_text
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts import sample, scoring
from gdro_comfy.time_left import Pace, duration
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12, "10 s"), (88, "90 s"), (100, "2 min"), (740, "12 min"), (5300, "88 min"), (7200, "2 h"),
     (12100, "3 h 20 min"), (14390, "4 h")],
)  # fmt: skip
def test_times_are_said_in_words(seconds, words):
    assert duration(seconds) == words


def test_the_first_part_warms_up_and_the_rest_gives_the_pace():
    now = iter((100.0, 107.0, 114.0))
    found = Pace(total=104, clock=lambda: next(now))
    assert found.left(2) == ""
    assert found.left(3) == ", about 12 min left"
    assert found.left(103) == ""


def test_rollout_scoring_and_training_say_it_from_their_second_part_on(
    bundled_model, host, monkeypatch
):
    ticks = itertools.count(step=60)
    monkeypatch.setattr(time_left.Pace.__init__, "__defaults__", (lambda: float(next(ticks)),))
    prompts = from_text("one red circle\ntwo blue squares")
    config = sample.RolloutConfig(images_per_prompt=3, steps=1, batch_size=1)
    made = sample.generate(host, bundled_model, prompts, config)
    said = [stage for stage, value, _ in host.seen if value == 4]
    assert "sampling groups, about 2 min left" in said
    assert host.seen[-1] == ("sampling groups", 6, 6)
    monkeypatch.setattr(scoring, "_BATCH", 2)
    scored = scoring.score_rollout(host, made, RednessReward())
    assert ("scoring, redness, about 60 s left", 4, 6) in host.seen
    objective = GDRO(group_size=3)
    train(host, bundled_model, scored, objective, TrainConfig(steps=3, adapter=AdapterConfig(4)))
    assert host.seen[-2:] == [("training, about 60 s left", 2, 3), ("training", 3, 3)]
