"""Floors and Pareto ranking: orders by hand, what is refused, and rewards that are the same."""

import numpy as np
import pytest
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.rewards.combine import CombinedReward, from_node
from gdro_comfy.rewards.precomputed import PrecomputedReward
from gdro_comfy.rewards.ranking import dominance, read_floors
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.inputs import complete, nest

PROMPTS = from_text("one red circle\ntwo blue squares")
CONFIG = RolloutConfig(images_per_prompt=4, steps=1, run_name="ranked")
NAMES, RANGES = ["ocr", "composition"], [(0.0, 1.0), (0.0, 1.0)]


class Fixed(RednessReward):
    """Has a range and a name, and is never asked for scores."""

    def __init__(self, name, value_range=(0.0, 1.0)):
        super().__init__()
        self.name, self.range = name, value_range


def combined(*rewards, **settings):
    return CombinedReward(list(rewards) or [Fixed("a"), Fixed("b")], **settings)


@pytest.fixture
def rollout(bundled_model, host):
    return sample_rollout(host, bundled_model, PROMPTS, CONFIG)


@pytest.mark.parametrize(
    ("text", "floors"),
    [
        ("", {}),
        ("composition 0.8", {1: 0.8}),
        ("composition >= .8, reward0=0.5", {1: 0.8, 0: 0.5}),
        ("ocr: 1e-1;\n composition 1", {0: 0.1, 1: 1.0}),
    ],
)
def test_floors_are_read_by_name_and_number(text, floors):
    assert read_floors(text, NAMES, RANGES) == floors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.8", "'0.8' is no reward with a number"),
        ("composition x", "'composition x' is no reward with a number"),
        ("composition nan", "is no reward with a number"),
        ("clip 0.8", "there is no reward 'clip'. The rewards are: ocr, composition"),
        ("ocr 1.1", "1.1 for ocr, which goes from 0 to 1, is reached by no image"),
        ("ocr 0", "0 for ocr, which goes from 0 to 1, is reached by every image"),
        ("ocr -2", "is reached by every image"),
    ],
)
def test_floors_that_cannot_be_used_are_refused(text, message):
    with pytest.raises(InputError, match=f"floors: .*{message}"):
        read_floors(text, NAMES, RANGES)


def test_at_least_this_and_then_that_by_hand():
    reward = combined(weights="0, 1", floors="a 0.8")
    a, b = [0.8, 0.9, 0.4, 0.7], [0.2, 0.6, 1.0, 0.0]
    # Above the floor by b alone; below it by a alone, whatever b is.
    expected = [0.5 + 0.1, 0.5 + 0.3, 0.25, 0.4375]
    assert reward.combine(np.array([a, b])) == pytest.approx(expected)
    assert reward.range == (0.0, 1.0)


def test_several_floors_are_met_by_their_mean():
    reward = combined(floors="a 0.5, b 0.5")
    values = reward.combine(np.array([[0.5, 1.0, 0.0], [0.5, 0.25, 0.25]]))
    assert values == pytest.approx([0.75, 0.375, 0.125])


def test_where_no_image_reaches_the_floor_the_nearest_is_the_best():
    reward = combined(weights="0, 1", floors="a 0.9")
    values = reward.combine(np.array([[[0.1, 0.5, 0.3]], [[1.0, 0.0, 0.9]]]))[0]
    assert values.argsort().tolist() == [0, 2, 1]
    assert values.max() < 0.5


def test_nothing_below_a_floor_equals_or_beats_what_reaches_it():
    rng = np.random.default_rng(0)
    values = rng.random((2, 50, 8))
    ranked = combined(weights="0, 1", floors="a 0.5").combine(values)
    reached = values[0] >= 0.5
    assert ranked[reached].min() >= 0.5 > ranked[~reached].max()


@pytest.mark.parametrize(
    "rule", [{"normalisation": "per group"}, {"pareto": True}, {"formula": "b - a"}]
)
def test_a_floor_goes_with_every_rule(rule):
    values = np.random.default_rng(1).random((2, 6, 5))
    plain, floored = (
        combined(**rule).combine(values),
        combined(**rule, floors="b 0.3").combine(values),
    )
    reached = values[1] >= 0.3
    assert floored[reached].min() >= 0.5 > floored[~reached].max()
    for before, after, row in zip(plain, floored, reached, strict=True):
        assert (before[row].argsort() == after[row].argsort()).all()


def test_what_is_not_finite_stays_so_below_a_floor():
    reward = combined(formula="a / b", floors="a 0.5")
    with np.errstate(all="ignore"):
        values = reward.combine(np.array([[0.1, 0.9], [0.0, 0.0]]))
    assert np.isinf(values).all()


def test_pareto_ranks_by_hand():
    first = [[3, 1, 2, 1]]
    second = [[3, 1, 1, 2]]
    # The first beats three; the second is beaten by all; the others beat one and are beaten by one.
    assert dominance(np.array([first, second])).tolist() == [[1, 0, 0.5, 0.5]]


def test_pareto_does_not_depend_on_scales_and_respects_every_domination():
    values = np.random.default_rng(2).random((3, 40, 7))
    ranks = dominance(values)
    assert np.array_equal(
        ranks, dominance(np.stack([values[0] * 1000, np.exp(values[1]), values[2] - 9]))
    )
    better = (values[..., :, None] > values[..., None, :]).all(0)
    assert better.any()
    assert (ranks[..., :, None] > ranks[..., None, :])[better].all()
    assert ranks.min() >= 0
    assert ranks.max() <= 1


def test_equal_images_are_in_the_middle_and_left_out_ones_do_not_count():
    assert dominance(np.ones((2, 1, 3))).tolist() == [[0.5] * 3]
    values = np.array([[[2.0, 1.0, np.nan]], [[2.0, 1.0, 5.0]]])
    assert dominance(values)[0, :2].tolist() == [1, 0]
    assert np.isnan(dominance(values)[0, 2])


def test_the_same_reward_twice_counts_once_by_rank_and_twice_by_weights(host, rollout):
    numbers = PrecomputedReward("mine", rollout, np.arange(8.0).reshape(2, 4), "the graph")
    red = RednessReward()
    once = combined(red, numbers, pareto=True)
    twice = combined(red, numbers, numbers, pareto=True)
    parts = once.part_scores(rollout, lambda r: score_rollout(host, rollout, r).scores())
    assert np.array_equal(once.combine(parts), twice.combine(np.concatenate([parts, parts[1:]])))
    text = twice.explain(np.concatenate([parts, parts[1:]]))
    assert "mine and mine2 are the same reward: together they count once." in text
    weighted = combined(numbers, numbers)
    assert "together they count twice." in weighted.explain(np.stack([parts[1], parts[1]]))
    assert "same reward" not in once.explain(parts)


def test_ranks_are_for_rollouts_only_and_floors_are_not(host, rollout):
    with pytest.raises(InputError, match=r"combined is ranked \(pareto\), so it compares"):
        combined(pareto=True).check_prompts(PROMPTS.prompts)
    red = RednessReward(0.5)  # from 0 to 0.5, so that no image reaches the floor
    reward = combined(red, RednessReward(2.0), floors="redness 0.9")
    reward.check_prompts(PROMPTS.prompts)
    group = rollout.groups()[0]
    image, prompt = [group.image(0)], [group.prompt]
    nearness = red.score(image, prompt).values[0] / 0.9
    assert reward.score(image, prompt).values[0] == pytest.approx(nearness / 2)
    scores = score_rollout(host, rollout, combined(red, RednessReward(2.0), pareto=True)).scores()
    assert scores.shape == (2, 4)


def test_scores_without_floors_are_stored_where_they_were():
    before = {"rewards": [["a", {"scale": 4.0}], ["b", {"scale": 4.0}]], "normalisation": "none",
              "rule": [1.0, 1.0], "formula": None}  # fmt: skip
    assert combined().settings == before
    assert combined(floors="b 0.5").settings == {**before, "floors": {"b": 0.5}}
    assert combined(pareto=True).settings["rule"] == "pareto"


def test_the_node_has_both(host, rollout):
    stage = STAGES["GDRO_CombineRewards"]
    numbers = PrecomputedReward("mine", rollout, np.arange(8.0).reshape(2, 4), "the graph")
    flat = {"rewards.reward0": RednessReward(), "rewards.reward1": numbers, "rollout": rollout}
    inputs = complete(
        stage.inputs, nest(stage.inputs, {**flat, "rule": "pareto", "floors": "mine 6"})
    )
    reward, text = stage(host, **inputs)
    assert reward.pareto
    assert reward.floors == {1: 6.0}
    assert "mine reaches its floor of 6 in 2 of 8 pictures, and in 1 of 2 groups." in text
    assert "In the other 1, the picture nearest to the floor counts as the best." in text
    scores = score_rollout(host, rollout, reward).scores()
    assert scores[0].argmax() == 3
    assert (scores[0] < 0.5).all()
    assert (
        from_node(
            {"reward0": Fixed("a"), "reward1": Fixed("b")}, {"rule": "formula", "formula": "a + b"}
        ).floors
        == {}
    )
