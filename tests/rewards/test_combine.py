"""Combined rewards: weights, normalisation and formulas by hand, over whole groups."""

import numpy as np
import pytest
from PIL import Image
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.rewards.agreement import correlation
from gdro_comfy.rewards.base import RewardError, RewardResult
from gdro_comfy.rewards.combine import CombinedReward, from_node, normalise
from gdro_comfy.rewards.formula import Formula
from gdro_comfy.rewards.precomputed import PrecomputedReward
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
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
    return sample_rollout(host, bundled_model, PROMPTS, CONFIG)


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
        ("a + 1e999", "is not allowed"),
        ("a + " + "9" * 400, "is not allowed"),
        ("(" * 400 + "a" + ")" * 400, "is not a formula"),
        ("a" * 2000, "more than 1000"),
    ],
)
def test_whatever_is_not_a_formula_is_refused(text, message):
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
    scores = score_rollout(host, rollout, combined).scores()
    redness, greenness = (score_rollout(host, rollout, part).scores() for part in (red, green))
    assert np.allclose(scores, (3 * redness - greenness) / 4, atol=1e-6)
    assert (red.scored, green.scored) == (40, 40)


def test_a_group_that_is_scored_in_batches_is_normalised_as_a_whole(host, rollout):
    scores = score_rollout(
        host, rollout, CombinedReward([RednessReward(), GreennessReward()], "1 1", "per group")
    ).scores()
    parts = [score_rollout(host, rollout, r()).scores() for r in (RednessReward, GreennessReward)]
    expected = sum((p - p.mean(1, keepdims=True)) / p.std(1, keepdims=True) for p in parts) / 2
    assert np.allclose(scores, expected, atol=1e-4)


def test_part_of_a_rollout_is_normalised_by_itself_and_no_image_is_scored_again(
    bundled_model, host, rollout
):
    red, green = RednessReward(), GreennessReward()
    reward = CombinedReward([red, green], "1, 1", "whole rollout")
    whole = score_rollout(host, rollout, reward)
    scores = whole.scores()
    part = score_rollout(
        host, sample_rollout(host, bundled_model, from_text("two blue squares"), CONFIG), reward
    )
    assert part.scores().mean() == pytest.approx(0, abs=1e-5)
    assert not np.allclose(part.scores()[0], scores[1])
    score_rollout(host, rollout, CombinedReward([red, green], "1, 2"))
    assert np.array_equal(whole.scores(), scores)
    assert (red.scored, green.scored) == (40, 40)


def test_a_formula_of_named_rewards_and_numbers_from_the_graph(host, rollout):
    numbers = PrecomputedReward("mine", rollout, np.arange(40.0).reshape(2, 20), "the graph")
    reward = CombinedReward(
        [RednessReward(), RednessReward(2.0), numbers], formula="min(mine, 3) + 0 * redness2"
    )
    assert score_rollout(host, rollout, reward).scores()[0].tolist() == [0, 1, 2, *[3] * 17]
    with pytest.raises(InputError, match="has numbers for the pictures of"):
        reward.check_new_images()
    with pytest.raises(InputError, match="has numbers for the pictures of"):
        reward.check_prompts(PROMPTS.prompts)


@pytest.mark.parametrize("formula", ["redness / mine", "mine / mine", "redness / mine * 1e300"])
def test_a_division_by_zero_names_the_image(host, rollout, formula):
    numbers = PrecomputedReward("mine", rollout, np.arange(40.0).reshape(2, 20), "the graph")
    reward = CombinedReward([numbers, RednessReward()], formula=formula)
    with pytest.raises(
        RewardError, match=r"combined gave (inf|nan) for 000\.png of the prompt 'one"
    ):
        score_rollout(host, rollout, reward)
    stage = STAGES["GDRO_CombineRewards"]
    with pytest.raises(
        RewardError, match=r"combined gave (inf|nan) for 000\.png of the prompt 'one"
    ):
        stage(
            host,
            rewards={"reward0": numbers, "reward1": RednessReward()},
            rule={"rule": "formula", "formula": formula},
            rollout=rollout,
        )


def test_an_image_without_one_of_the_scores_is_left_out(host, rollout):
    numbers = np.arange(40.0).reshape(2, 20)
    numbers[1, 3] = np.nan
    partial = PrecomputedReward("mine", rollout, numbers, "the graph")
    for reward in (
        CombinedReward([partial, RednessReward()]),
        CombinedReward([partial, RednessReward()], normalisation="per group"),
        CombinedReward([partial, RednessReward()], formula="max(mine, 0) + redness"),
    ):
        scores = score_rollout(host, rollout, reward).scores()
        assert np.argwhere(~np.isfinite(scores)).tolist() == [[1, 3]]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_never_hides_in_a_formula(value):
    class BrokenReward(RednessReward):
        name = "broken"

        def score(self, images, prompts, check_cancelled=lambda: None):
            return RewardResult(np.array([0.5, value], np.float32))

    reward = CombinedReward([BrokenReward(), RednessReward()], formula="clip(broken, 0, 1)")
    with pytest.raises(RewardError, match="broken gave .* for image 1 of 'two blue squares'"):
        reward.score([Image.new("RGB", (8, 8))] * 2, PROMPTS.prompts)


def test_a_formula_without_a_finite_value_names_the_image():
    zero = RednessReward(0.0)
    reward = CombinedReward([RednessReward(), zero], formula="redness / redness2")
    with pytest.raises(RewardError, match="combined gave inf for image 0 of 'one red circle'"):
        reward.score([Image.new("RGB", (8, 8))] * 2, PROMPTS.prompts)


def test_images_outside_of_a_rollout_are_scored_without_normalisation_only(rollout):
    group = rollout.groups()[0]
    image, prompt = [group.image(0)], [group.prompt]
    plain = CombinedReward([RednessReward(), GreennessReward()], formula="redness + greenness")
    parts = [r().score(image, prompt).values[0] for r in (RednessReward, GreennessReward)]
    assert plain.score(image, prompt).values[0] == pytest.approx(sum(parts))
    relative = CombinedReward([RednessReward(), GreennessReward()], normalisation="per group")
    with pytest.raises(InputError, match="compares the pictures of a rollout with each other"):
        relative.check_prompts(prompt)
    relative.check_new_images()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("1", "1 for 2 rewards"),
        ("1, x", "'x' is no number"),
        ("0, 0", "all are 0"),
        ("1 nan", "'nan'"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(InputError, match=f"weights: .*{message}"):
        CombinedReward([RednessReward(), GreennessReward()], weights)


def test_a_single_reward_is_refused():
    with pytest.raises(InputError, match="Connect two rewards or more"):
        from_node(
            {"reward0": RednessReward(), "reward1": None},
            {"rule": "weights", "weights": "", "normalisation": "none"},
        )


def test_the_summary_names_the_reward_that_decides(host, rollout):
    rule = {"rule": "weights", "weights": "1, 0.01", "normalisation": "per group"}
    rewards = {"reward0": RednessReward(), "reward1": GreennessReward()}
    _, text = STAGES["GDRO_CombineRewards"](host, rewards=rewards, rule=rule, rollout=rollout)
    assert "redness decides the ranking most" in text
    assert "redness and greenness: " in text
    assert "redness: +1.00; the same best in 2 of 2 groups" in text


def test_correlation_is_inside_groups_only():
    a = np.array([[0.0, 1.0], [10.0, 11.0]])
    assert correlation(a, np.array([[1.0, 0.0], [21.0, 20.0]])) == pytest.approx(-1)
    assert correlation(a, np.ones((2, 2))) is None


def test_a_workflow_file_connects_any_number_of_rewards():
    declared = STAGES["GDRO_CombineRewards"].inputs
    flat = {
        "rewards.reward0": "A",
        "rewards.reward1": "B",
        "rewards.reward2": "C",
        "rule": "formula",
    }
    inputs = complete(declared, nest(declared, flat))
    assert inputs["rewards"] == {"reward0": "A", "reward1": "B", "reward2": "C"}
    assert inputs["rule"] == {"rule": "formula", "formula": "reward0 * reward1"}
    with pytest.raises(
        InputError,
        match="rewards: 1 are connected. Connect from 2 to 100",
    ):
        complete(declared, nest(declared, {"rewards.reward0": "A", "rule": "formula"}))
