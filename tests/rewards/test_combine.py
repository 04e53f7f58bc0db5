"""Combined rewards: weights, normalisation and formulas by hand, over whole groups, nothing executed."""

import numpy as np
import pytest
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.rewards.base import RewardError, RewardResult
from gdro_comfy.rewards.combine import CombinedReward, correlation, from_node, normalise
from gdro_comfy.rewards.formula import Formula
from gdro_comfy.rewards.precomputed import GivenReward
from gdro_comfy.rollouts.sample import RolloutConfig, generate
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.inputs import complete, nest

PROMPTS = from_text("one red circle\ntwo blue squares")
CONFIG = RolloutConfig(images_per_prompt=20, steps=1, run_name="trial")


class GreennessReward(RednessReward):
    name = "greenness"

    def score(self, images, prompts, check_cancelled=lambda: None):
        check_cancelled()
        self.scored += len(images)
        pixels = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
        return RewardResult(pixels[..., 1].mean((1, 2)))


@pytest.fixture
def rollout(bundled_model, host):
    return generate(host, bundled_model, PROMPTS, CONFIG)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b * 2", 0.5 + 8),
        ("-(a - b) / a", 7),
        ("min(a, b, 0.25) + max(1, b)", 4.25),
        ("clip(b, 0, 1) + clip(-a, 0, 1)", 1),
        ("a\n+ b", 4.5),
    ],
)
def test_formulas_by_hand(text, expected):
    assert Formula(text, ["a", "b"])({"a": np.float64(0.5), "b": np.float64(4)}) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("a +", "is not a formula"),
        ("1 + 2", "names no reward"),
        ("c + 1", "no reward 'c'. The rewards are: a, b"),
        ("a.tofile('x')", "is not allowed"),
        ("a.real", "is not allowed"),
        ("__import__('os')", r"__import__\(\) is not known"),
        ("open('x')", r"open\(\) is not known"),
        ("(lambda: a)()", "is not allowed"),
        ("a[0]", "is not allowed"),
        ("a ** b", "is not allowed"),
        ("a if b else a", "is not allowed"),
        ("min(a)", r"min\(\) has 1 arguments"),
        ("clip(a, 1)", r"clip\(\) has 2 arguments"),
        ("min(a, b, key=a)", "is not allowed"),
        ("a + True", "'True' is not allowed"),
        ("a + 'x'", "is not allowed"),
        ("(" * 400 + "a" + ")" * 400, "is not a formula"),
        ("a" * 2000, "more than 1000"),
    ],
)
def test_what_is_no_formula_is_refused(text, message):
    with pytest.raises(InputError, match=f"formula: .*{message}"):
        Formula(text, ["a", "b"])


def test_normalisation_by_hand():
    values = np.array([[0.0, 2.0], [5.0, 5.0]])
    assert normalise(values, "per group").tolist() == [[-1, 1], [0, 0]]
    whole = normalise(values, "whole rollout")
    assert whole[0] == pytest.approx([-3 / 4.5**0.5, -1 / 4.5**0.5])
    assert normalise(values, "none") is values


def test_the_weighted_mean_stays_in_the_range_of_its_parts(host, rollout):
    red, green = RednessReward(), GreennessReward()
    combined = CombinedReward([red, green], "3, -1")
    assert combined.range == (-0.25, 0.75)
    found = score_rollout(host, rollout, combined).scores()
    one, two = (score_rollout(host, rollout, part).scores() for part in (red, green))
    assert np.allclose(found, (3 * one - two) / 4, atol=1e-6)
    assert (red.scored, green.scored) == (40, 40)


def test_a_group_is_normalised_as_a_whole_though_it_is_scored_in_batches(host, rollout):
    found = score_rollout(
        host, rollout, CombinedReward([RednessReward(), GreennessReward()], "1 1", "per group")
    ).scores()
    parts = [score_rollout(host, rollout, r()).scores() for r in (RednessReward, GreennessReward)]
    expected = sum((p - p.mean(1, keepdims=True)) / p.std(1, keepdims=True) for p in parts) / 2
    assert np.allclose(found, expected, atol=1e-4)


def test_other_weights_score_nothing_again_and_part_of_a_rollout_has_scores_of_its_own(
    bundled_model, host, rollout
):
    red, green = RednessReward(), GreennessReward()
    whole = CombinedReward([red, green], "1, 1", "whole rollout")
    first = score_rollout(host, rollout, whole)
    kept = first.scores()
    part = score_rollout(
        host, generate(host, bundled_model, from_text("two blue squares"), CONFIG), whole
    )
    assert part.scores().mean() == pytest.approx(0, abs=1e-5)
    assert not np.allclose(part.scores()[0], kept[1])
    score_rollout(host, rollout, CombinedReward([red, green], "1, 2"))
    assert np.array_equal(first.scores(), kept)
    assert (red.scored, green.scored) == (40, 40)


def test_a_formula_of_named_rewards_and_numbers_from_the_graph(host, rollout):
    given = GivenReward("mine", rollout, np.arange(40.0).reshape(2, 20), "the graph")
    reward = CombinedReward(
        [RednessReward(), RednessReward(2.0), given], formula="min(mine, 3) + 0 * redness2"
    )
    assert score_rollout(host, rollout, reward).scores()[0].tolist() == [0, 1, 2, *[3] * 17]
    with pytest.raises(InputError, match="has numbers for the pictures of"):
        reward.check_new_pictures()
    with pytest.raises(InputError, match="has numbers for the pictures of"):
        reward.check_prompts(PROMPTS.prompts)


def test_a_division_by_zero_names_the_picture(host, rollout):
    given = GivenReward("mine", rollout, np.arange(40.0).reshape(2, 20), "the graph")
    reward = CombinedReward([given, RednessReward()], formula="redness / mine")
    with pytest.raises(RewardError, match=r"combined gave inf for 000\.png of the prompt 'one red"):
        score_rollout(host, rollout, reward)


def test_single_pictures_are_scored_only_without_normalisation(rollout):
    group = rollout.groups()[0]
    image, prompt = [group.image(0)], [group.prompt]
    plain = CombinedReward([RednessReward(), GreennessReward()], formula="redness + greenness")
    parts = [r().score(image, prompt).values[0] for r in (RednessReward, GreennessReward)]
    assert plain.score(image, prompt).values[0] == pytest.approx(sum(parts))
    relative = CombinedReward([RednessReward(), GreennessReward()], normalisation="per group")
    with pytest.raises(InputError, match="compares the pictures of a rollout with each other"):
        relative.check_prompts(prompt)
    relative.check_new_pictures()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("1", "1 for 2 rewards"),
        ("1, x", "'x' is no number"),
        ("0, 0", "all are 0"),
        ("1 nan", "'nan'"),
    ],
)
def test_weights_that_do_not_fit(weights, message):
    with pytest.raises(InputError, match=f"weights: .*{message}"):
        CombinedReward([RednessReward(), GreennessReward()], weights)


def test_one_reward_is_not_combined():
    with pytest.raises(InputError, match="Connect two rewards or more"):
        from_node(
            {"reward0": RednessReward(), "reward1": None},
            {"rule": "weights", "weights": "", "normalisation": "none"},
        )


def test_the_summary_names_the_one_that_decides(host, rollout):
    rule = {"rule": "weights", "weights": "1, 0.01", "normalisation": "per group"}
    rewards = {"reward0": RednessReward(), "reward1": GreennessReward()}
    _, text = STAGES["GDRO_CombineRewards"](host, rewards=rewards, rule=rule, rollout=rollout)
    assert "redness decides the ranking most" in text
    assert "redness and greenness: " in text
    assert "redness: +1.00; the same best in 2 of 2 groups" in text


def test_correlation_looks_inside_groups_only():
    one = np.array([[0.0, 1.0], [10.0, 11.0]])
    assert correlation(one, np.array([[1.0, 0.0], [21.0, 20.0]])) == pytest.approx(-1)
    assert correlation(one, np.ones((2, 2))) is None


def test_any_number_of_rewards_comes_from_a_workflow_file():
    declared = STAGES["GDRO_CombineRewards"].inputs
    flat = {
        "rewards.reward0": "A",
        "rewards.reward1": "B",
        "rewards.reward2": "C",
        "rule": "formula",
    }
    given = complete(declared, nest(declared, flat))
    assert given["rewards"] == {"reward0": "A", "reward1": "B", "reward2": "C"}
    assert given["rule"] == {"rule": "formula", "formula": "reward0 * reward1"}
    with pytest.raises(
        InputError,
        match="rewards: 1 are connected. Connect from 2 to 100",
    ):
        complete(declared, nest(declared, {"rewards.reward0": "A", "rule": "formula"}))
