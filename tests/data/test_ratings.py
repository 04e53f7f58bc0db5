"""Ratings by hand: the last of a group counts, only what is rated is trained on, and a file of ratings
is taken over whole or not at all."""

import json

import numpy as np
import pytest
import torch
from small_reward import RednessReward

from gdro_comfy.data import ratings
from gdro_comfy.data.prompts import from_text
from gdro_comfy.data.ratings import GroupRating
from gdro_comfy.errors import InputError, WaitingForUser
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rewards.combine import CombinedReward
from gdro_comfy.rewards.rating import from_ratings, rated_values
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.rollouts.summary import best_and_worst, histogram, strongest_groups, summarise
from gdro_comfy.stages import STAGES
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.group_sampling import draw, teaching_groups
from gdro_comfy.training.losses import gdro_loss, ranking_loss
from gdro_comfy.training.objectives import DPO, GDRO
from gdro_comfy.training.train import train

PROMPTS = from_text("one red circle\ntwo blue squares\na star")
CONFIG = RolloutConfig(images_per_prompt=4, steps=1, run_name="trial")
NAN = float("nan")


@pytest.fixture
def rollout(bundled_model, host):
    return sample_rollout(host, bundled_model, PROMPTS, CONFIG)


def rate(rollout, *rows, ranked=False):
    """Numbers for the groups in their order; None for a group passes it over."""
    given = {
        group.folder.name: GroupRating(row, ranked)
        for group, row in zip(rollout.groups(), rows, strict=False)
        if row is not None
    }
    ratings.write(rollout.run.folder, given)


def test_the_last_rating_of_a_group_counts(tmp_path):
    assert ratings.read(tmp_path) == {}
    ratings.write(tmp_path, {"a": GroupRating([5, None]), "b": GroupRating([1])})
    ratings.write(tmp_path, {"a": GroupRating([2, 1], ranked=True)})
    assert ratings.read(tmp_path) == {"a": GroupRating([2, 1], True), "b": GroupRating([1])}


@pytest.mark.parametrize("given", [[0], [6], [True], [2.5], ["5"], "5"])
def test_what_is_no_rating_is_refused_and_nothing_is_written(tmp_path, given):
    with pytest.raises(InputError, match="from 1 to 5"):
        ratings.write(tmp_path, {"good": GroupRating([3]), "a": GroupRating(given)})
    assert ratings.read(tmp_path) == {}


def test_broken_lines_are_left_out(tmp_path):
    ratings.write(tmp_path, {"a": GroupRating([3])})
    with open(tmp_path / "ratings.jsonl", "a", encoding="utf-8") as file:
        file.write(
            '{"group": 3}\n[1]\n{"group": "b", "ratings": [9]}\n{"group": "b", "ranks": [0]}\n'
        )
        file.write('{"group": "c", "rat')
    ratings.write(tmp_path, {"d": GroupRating([1])})
    assert list(ratings.read(tmp_path)) == ["a", "d"]


@pytest.mark.parametrize(
    ("given", "kind", "expected"),
    [
        (GroupRating([1, 3, 5, None]), "stars", [0, 0.5, 1, NAN]),
        (GroupRating([1, 3, 5, None]), "order", [0, 1, 2, NAN]),
        (GroupRating([5, 2, 2]), "order", [1, 0, 0, NAN]),
        (GroupRating([2, 1, None, 3], True), "stars", [0.5, 1, NAN, 0]),
        (GroupRating([7, 1, 7, 30], True), "order", [1, 2, 1, 0]),
        (GroupRating([4, 4, 4, 4, 1]), "stars", [0.75] * 4),
        (GroupRating([None, 1, None], True), "stars", [NAN, 0, NAN, NAN]),
        (GroupRating([]), "order", [NAN] * 4),
    ],
)
def test_stars_and_ranks_as_rewards(given, kind, expected):
    assert np.array_equal(rated_values(given, 4, kind), expected, equal_nan=True)


def test_an_order_trains_as_a_ranking_at_the_usual_temperature():
    rewards = torch.tensor(rated_values(GroupRating([5, 1, 4, 2]), 4, "order"), dtype=torch.float64)
    scores = torch.tensor([0.3, -2.0, 1.0, 0.7], dtype=torch.float64)
    loss, _ = gdro_loss(scores, rewards, 0.05)
    assert loss.item() == pytest.approx(ranking_loss(scores, rewards)[0].item(), abs=1e-6)


def test_too_few_groups_say_how_many_and_what_to_do(rollout):
    rate(rollout, [1, 5, None, None], [3, 3, 3, 3])
    with pytest.raises(WaitingForUser) as waiting:
        from_ratings(rollout, "stars", 2)
    assert waiting.value.note == (
        "1 of 3 groups rated (1 more all alike, which teaches nothing); rate more and press Run "
        "(2 are needed)."
    )
    assert "gdro-comfy rate trial-" in str(waiting.value)
    assert from_ratings(rollout, "stars", 1).name == "rating"
    rate(rollout, None, [3, 4], [None, 2, 1])
    assert from_ratings(rollout, "stars", 99).name == "rating", (
        "there are no more groups than these"
    )


def test_only_rated_pictures_count_in_everything_that_is_shown(host, rollout):
    rate(rollout, [5, None, 1, None], [4, None, None, None])
    reward = from_ratings(rollout, "stars", 1)
    scored = score_rollout(host, rollout, reward)
    values = scored.scores()
    assert np.array_equal(values[:2], [[1, NAN, 0, NAN], [0.75, NAN, NAN, NAN]], equal_nan=True)
    assert np.isnan(values[2]).all()
    told = summarise(values)
    assert (told.images, told.groups, told.left_out, told.teaching_groups) == (3, 2, 9, 1)
    assert "3 images in 2 groups (9 without a score are left out): mean 0.583" in told.text()
    assert strongest_groups(scored, values).startswith(
        "'one red circle': best 1.000 (picture 1), worst"
    )
    assert best_and_worst(scored, values).size[0] > 4 * 64
    assert histogram(values, reward.range).size == (480, 240)
    _, _, _, text = STAGES["GDRO_ScoreRollout"](host, rollout=rollout, reward=reward)
    assert "3 images in 2 groups" in text
    lines = (rollout.run.folder / "scores" / scored.score_file).read_text().splitlines()
    assert [json.loads(line)["value"] for line in lines][:4] == [1.0, None, 0.0, None]


def test_ratings_are_for_the_pictures_that_they_were_made_for(bundled_model, host, rollout):
    rate(rollout, [1, 5, 3, 2], [1, 5])
    reward = from_ratings(rollout, "stars", 1)
    other = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(4, steps=2, run_name="trial")
    )
    with pytest.raises(InputError, match="are for the pictures of trial-"):
        score_rollout(host, other, reward)
    with pytest.raises(WaitingForUser, match="0 of 3 groups"):
        from_ratings(other, "stars", 1)
    grown = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(6, steps=1, run_name="trial")
    )
    values = score_rollout(host, grown, from_ratings(grown, "stars", 1)).scores()
    assert np.isnan(values[0, 4:]).all()
    assert values[0, :4].tolist() == [0, 1, 0.5, 0.25]
    with pytest.raises(InputError, match="rating has numbers for the pictures of trial-"):
        reward.check_prompts(rollout.prompts)


def test_a_part_without_ratings_is_refused(bundled_model, host, rollout):
    rate(rollout, [1, 5])
    reward = from_ratings(rollout, "stars", 1)
    part = sample_rollout(host, bundled_model, from_text("a star"), CONFIG)
    with pytest.raises(InputError, match="rating leaves out every picture"):
        score_rollout(host, part, reward)


def test_other_rewards_may_leave_nothing_out(host, rollout):
    from gdro_comfy.rewards.base import RewardError

    class Half(RednessReward):
        def score(self, images, prompts, check_cancelled=lambda: None):
            result = super().score(images, prompts, check_cancelled)
            result.values[1] = NAN
            return result

    with pytest.raises(RewardError, match="gave nan for 001.png"):
        score_rollout(host, rollout, Half())


def test_ratings_beside_another_reward_count_where_there_are_any(host, rollout):
    rate(rollout, [5, 1, None, 2], [1, 5])
    rating, red = from_ratings(rollout, "stars", 1), RednessReward()
    redness = score_rollout(host, rollout, red).scores()
    both = CombinedReward([rating, red], weights="1, 1")
    scored = score_rollout(host, rollout, both).scores()
    expected = np.array([[1, 0, NAN, 0.25], [0, 1, NAN, NAN], [NAN] * 4])
    assert np.allclose(scored, (expected + redness) / 2, equal_nan=True)
    normal = CombinedReward([rating, red], normalisation="per group")
    scored = score_rollout(host, rollout, normal)
    assert np.array_equal(np.isnan(scored.scores()), np.isnan(expected))
    text = (rollout.run.folder / "scores" / scored.score_file).read_text()
    assert "NaN" not in text, "no other program could read that"
    _, told = STAGES["GDRO_CombineRewards"](
        host, rewards={"reward0": rating, "reward1": red}, rollout=rollout,
        rule={"rule": "weights", "weights": "1, 0", "normalisation": "none"},
    )  # fmt: skip
    assert "rating: +1.00; the same best in 2 of 2 groups" in told


def test_groups_with_fewer_rewards_than_train_together_are_passed_over():
    rewards = np.array([[0.1, NAN, 0.9, 0.5], [0.1, 0.9, NAN, NAN], [NAN, 1, 1, 1]], np.float32)
    assert teaching_groups(rewards, 2) == [0, 1]
    assert teaching_groups(rewards, 3) == [0]
    with pytest.raises(
        InputError, match=r"4 images .* no group has more than 3 .*3 or fewer train"
    ):
        teaching_groups(rewards)


@pytest.mark.parametrize("how", ["random", "best and worst"])
def test_only_rated_images_are_drawn(how):
    rewards = torch.tensor([NAN, 0.3, NAN, 0.9, 0.5, NAN])
    for seed in range(20):
        picked = draw(rewards, 3, how, torch.Generator().manual_seed(seed))
        assert sorted(picked.tolist()) == [1, 3, 4]


@pytest.mark.parametrize("objective", [GDRO(group_size=3), DPO()], ids=["gdro", "dpo"])
def test_training_on_partial_ratings(bundled_model, host, rollout, objective):
    rate(rollout, [5, None, 1, 3], [None, 4, 2, None], [None, 1, None, None])
    scored = score_rollout(host, rollout, from_ratings(rollout, "stars", 2))
    config = TrainConfig(
        steps=3, groups_per_step=2, adapter=AdapterConfig(4, 4.0, "attention"), preview_every=0
    )
    result = train(host, bundled_model, scored, objective, config)
    assert result.path.is_file()
    assert all(np.isfinite(row["loss"]) for row in result.history())
    groups = 1 if objective.group_size == 3 else 2
    assert result.history()[0]["groups"] == groups, "of those with too few ratings"


def test_training_needs_as_many_rated_pictures_as_train_together(bundled_model, host, rollout):
    rate(rollout, [5, None, 1, 3], [None, 4, 2, None])
    scored = score_rollout(host, rollout, from_ratings(rollout, "stars", 2))
    with pytest.raises(InputError, match=r"group_size: 4 images .* no group has more than 3"):
        train(host, bundled_model, scored, GDRO(group_size=4), TrainConfig(steps=2))


def test_the_same_ratings_are_the_same_scores_and_others_are_not(host, rollout):
    rate(rollout, [5, 1])
    one = score_rollout(host, rollout, from_ratings(rollout, "stars", 1))
    again = score_rollout(host, rollout, from_ratings(rollout, "stars", 1))
    rate(rollout, [5, 2])
    other = score_rollout(host, rollout, from_ratings(rollout, "stars", 1))
    assert one.score_file == again.score_file != other.score_file
