"""The check of a reward before training: spread, stars, cheap properties, disagreements, and the node."""

import numpy as np
import pytest
from small_reward import RednessReward

from gdro_comfy.data import ratings
from gdro_comfy.data.prompts import from_text
from gdro_comfy.rewards.base import RewardResult
from gdro_comfy.rewards.measure import MEASURES
from gdro_comfy.rewards.reward_check import (
    Disagreement,
    cheap_properties,
    describe_cheap,
    describe_spread,
    describe_stars,
    disagreements,
)
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.stages import STAGES

CONFIG = RolloutConfig(images_per_prompt=5, steps=1, run_name="checked")
NAN = np.nan


class BrightReward(RednessReward):
    name = "bright"

    def score(self, images, prompts, check_cancelled=lambda: None):
        light = [MEASURES["brightness"](np.asarray(image) / 255) for image in images]
        return RewardResult(np.array(light, np.float32))


@pytest.fixture
def rollout(bundled_model, host):
    prompts = from_text("one red circle\ntwo blue squares\none green star")
    return sample_rollout(host, bundled_model, prompts, CONFIG)


def test_the_spread_by_hand():
    values = np.array([[0.0, 1.0, 1.0], [0.2, 0.2, 0.2], [0.0, 0.5, 1.0], [NAN, NAN, 3.0]])
    text = "\n".join(describe_spread(values))
    inside = (np.std([0, 1, 1]) + 0 + np.std([0, 0.5, 1])) / 3
    assert f"Spread inside groups: {inside:.4g}" in text
    assert "the best alone in 1 of 3 groups; in 1 all are equal" in text
    assert f"A temperature to begin with: {inside / 5:.2g}" in text
    assert describe_spread(np.full((2, 3), NAN)) == ["No group has two pictures with a reward."]


def test_agreement_with_stars_by_hand():
    stars = np.array([[1.0, 2.0, 3.0], [NAN, 1.0, 1.0]])
    values = np.array([[0.0, 0.5, 0.5], [9.0, 1.0, 0.0]])
    # Three pairs differ in stars: two in the same order, one a tie; the last group has none.
    [text] = describe_stars(values, stars)
    assert "Your own ratings (5 pictures): it orders 83 % of 3 pairs as you do" in text
    assert "That is few: rate more, 20 pairs at least." in text
    [text] = describe_stars(values, np.full((2, 3), NAN))
    assert "rate about 20 pictures" in text


def test_chance_is_called_chance_and_agreement_is_not():
    rng = np.random.default_rng(0)
    stars = rng.integers(1, 6, (8, 6)).astype(float)
    [noise] = describe_stars(rng.random((8, 6)), stars)
    assert "not certainly better than chance" in noise
    [same] = describe_stars(stars * 2 - 7, stars)
    assert "it orders 100 % of" in same
    assert "chance: it" not in same


def test_a_reward_that_follows_something_cheap_is_named():
    rng = np.random.default_rng(1)
    values = rng.random((6, 8))
    properties = {
        "file size": -values + 0.1 * rng.random((6, 8)),
        "brightness": rng.random((6, 8)),
        "resolution": np.ones((6, 8)),
    }
    text = "\n".join(describe_cheap(values, properties))
    assert "resolution: no difference" in text
    assert "please this reward with less file size alone" in text
    values[0, 0] = NAN
    assert "less file size" in "\n".join(describe_cheap(values, properties))


def test_disagreements_are_the_strongest_first_and_real():
    first = np.array([[0.0, 0.5, 1.0], [0.0, 0.0, 1.0], [3.0, 2.0, 1.0], [1.0, 1.0, 1.0]])
    second = np.array([[1.0, 0.5, 0.0], [0.0, 1.0, 0.9], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    found = disagreements(first, second)
    assert found == [Disagreement(0, 2, 0), Disagreement(1, 2, 1)]
    assert disagreements(first, first) == []
    assert len(disagreements(np.tile(first[:1], (9, 1)), np.tile(second[:1], (9, 1)))) == 6


def test_the_node_tells_what_a_reward_is_worth(host, rollout):
    properties = cheap_properties(rollout)
    assert properties["resolution"].tolist() == [[64 * 64] * 5] * 3
    assert (properties["file size"] > 100).all()
    groups = [group.folder.name for group in rollout.groups()]
    order = properties["brightness"].argsort(1).argsort(1)
    ratings.write(
        rollout.run.folder,
        {
            name: ratings.GroupRating([int(r) + 1 for r in row])
            for name, row in zip(groups, order, strict=True)
        },
    )
    text, image = STAGES["GDRO_RewardCheck"](
        host, rollout=rollout, reward=BrightReward(), other=None
    )
    assert text.startswith("bright, 15 pictures in 3 groups\n")
    assert "Your own ratings (15 pictures): it orders 100 % of 30 pairs as you do" in text
    assert "brightness: +" in text
    assert "more brightness" in text
    assert image.ndim == 4
    assert "quality" in text.splitlines()[-1] or "picture" in text.splitlines()[-1]


def test_a_reward_against_itself_has_no_disagreements(host, rollout):
    text, image = STAGES["GDRO_RewardCheck"](
        host, rollout=rollout, reward=RednessReward(), other=RednessReward()
    )
    assert "There is no group in which redness clearly prefers another picture." in text
    assert image.shape[-1] == 3
