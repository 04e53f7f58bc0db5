"""Scoring: once per image, kept when cancelled, never a silent zero."""

import re

import numpy as np
import pytest
from small_reward import RednessReward

from gdro_comfy.data.prompts import Prompt, PromptSet, from_text
from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards.base import RewardError, RewardResult
from gdro_comfy.rewards.combine import CombinedReward
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_images, score_rollout
from gdro_comfy.rollouts.summary import best_and_worst, histogram, strongest_groups, summarise

PROMPTS = from_text("one red circle\ntwo blue squares")
NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
CONFIG = RolloutConfig(images_per_prompt=20, steps=1, run_name="trial")


@pytest.fixture
def rollout(bundled_model, host):
    return sample_rollout(host, bundled_model, PROMPTS, CONFIG)


class Broken(RednessReward):
    """Goes wrong at its n-th batch, in one of several ways."""

    def __init__(self, how, at=1):
        super().__init__()
        self.how, self.at, self.calls = how, at, 0

    def score(self, images, prompts, check_cancelled=lambda: None):
        result = super().score(images, prompts, check_cancelled)
        self.calls += 1
        if self.calls == self.at:
            if self.how == "raises":
                raise RewardError("picture 3 cannot be read")
            if self.how == "nan":
                result.values[3] = np.nan
            if self.how == "count":
                return RewardResult(result.values[:-1])
        return result


def test_every_image_gets_its_own_score(host, rollout):
    scores = score_rollout(host, rollout, RednessReward()).scores()
    assert scores.shape == (2, 20)
    group = rollout.groups()[1]
    image = RednessReward().score([group.image(7)], [group.prompt]).values[0]
    assert scores[1, 7] == pytest.approx(image)


def test_scored_images_are_not_scored_again(host, rollout):
    reward = RednessReward()
    first = score_rollout(host, rollout, reward).scores()
    assert reward.scored == 40
    assert np.array_equal(score_rollout(host, rollout, reward).scores(), first)
    assert reward.scored == 40


def test_other_settings_of_a_reward_are_not_mixed(host, rollout):
    one = score_rollout(host, rollout, RednessReward(1.0))
    two = score_rollout(host, rollout, RednessReward(2.0))
    assert one.score_file != two.score_file
    assert np.allclose(two.scores(), 2 * one.scores())


def test_another_wish_behind_the_same_text_is_scored_anew(bundled_model, host, rollout):
    reward = RednessReward()
    score_rollout(host, rollout, reward)
    asked = PromptSet((Prompt("one red circle", target="CAT"), *PROMPTS.prompts[1:]), "other")
    score_rollout(host, sample_rollout(host, bundled_model, asked, CONFIG), reward)
    assert reward.scored == 60


def test_cancelling_keeps_what_is_scored(host, rollout):
    reward = RednessReward()
    host.checks, host.cancel_after = 0, 2
    with pytest.raises(Cancelled):
        score_rollout(host, rollout, reward)
    host.cancel_after = None
    again = RednessReward()
    score_rollout(host, rollout, again)
    assert reward.scored == 32
    assert again.scored == 8


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "picture 3 cannot be read"),
        ("nan", r"gave nan for .*\.png of the prompt"),
        ("count", r"returned \(31,\) values for 32 images"),
    ],
)
def test_a_reward_that_goes_wrong_says_so_and_scores_nothing(host, rollout, how, message):
    with pytest.raises(RewardError, match=message):
        score_rollout(host, rollout, Broken(how))
    with pytest.raises(InputError, match=r"40 of 40 images have no score. Run GDRO Score Rollout"):
        rollout.scored(rollout.run.score_file("redness", RednessReward().settings).name).scores()


def test_a_reward_that_goes_wrong_late_keeps_the_first_batch(host, rollout):
    with pytest.raises(RewardError):
        score_rollout(host, rollout, Broken("nan", at=2))
    again = RednessReward()
    score_rollout(host, rollout, again)
    assert again.scored == 8


def test_prompts_a_reward_cannot_judge_are_refused_before_any_work(host, rollout):
    class Picky(RednessReward):
        def check_prompts(self, prompts):
            raise InputError("prompts", "prompt 1 has no quotes", "Put the text in quotes.")

    picky = Picky()
    with pytest.raises(InputError, match="no quotes"):
        score_rollout(host, rollout, picky)
    assert picky.scored == 0


def test_summary_by_hand():
    rewards = np.array([[0.0, 1.0], [0.5, 0.5]], np.float32)
    found = summarise(rewards)
    assert (found.mean, found.best_of_group, found.spread) == (0.5, 0.75, 0.25)
    assert (found.teaching_groups, found.groups, found.images) == (1, 2, 4)
    assert "4 images in 2 groups: " in found.text()
    assert "; 1 group teaches nothing (all rewards equal)" in found.text()


@pytest.mark.parametrize(
    ("rewards", "words"),
    [
        ([[0, 1], [0, 1]], "every group teaches something"),
        ([[1, 1], [0, 0]], "2 groups teach nothing"),
        ([[1, 1]], "2 images in 1 group: .*; 1 group teaches nothing"),
    ],
)
def test_the_groups_that_teach_are_counted_in_good_english(rewards, words):
    assert re.search(words, summarise(np.array(rewards, np.float32)).text())


def test_the_strongest_groups_are_told_with_their_best_and_worst_picture(host, rollout):
    rewards = np.zeros((2, 20), np.float32)
    rewards[1, 4], rewards[1, 7] = 0.9, -0.1
    told = strongest_groups(rollout, rewards)
    assert told == "'two blue squares': best 0.900 (picture 5), worst -0.100 (picture 8)"
    assert strongest_groups(rollout, np.zeros((2, 20), np.float32)) == ""


def test_progress_names_the_reward_and_counts_the_pictures(host, rollout):
    host.reports.clear()
    score_rollout(host, rollout, RednessReward())
    assert host.reports == [("scoring, redness", done, 40) for done in (0, 32, 40)]


def test_pictures_of_the_scores(host, rollout):
    scores = score_rollout(host, rollout, RednessReward()).scores()
    assert histogram(scores, (0.0, 1.0)).size == (480, 240)
    assert histogram(np.ones((2, 3), np.float32), (1.0, 1.0)).size == (480, 240)
    strip = best_and_worst(rollout, scores)
    assert strip.size[0] > 4 * 64


class Odd(RednessReward):
    """Returns a result made elsewhere."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def score(self, images, prompts, check_cancelled=lambda: None):
        return self.make(len(images))


ODD = {
    "nan": (lambda n: RewardResult(np.full(n, np.nan)), "gave nan for"),
    "too large": (lambda n: RewardResult(np.full(n, 1e39)), "gave inf for"),
    "text": (lambda n: RewardResult(["a"] * n), "values that are no numbers"),
    "none": (lambda n: RewardResult([None] * n), "gave nan for|no numbers"),
    "too few": (lambda n: RewardResult(np.ones(n - 1)), "values for"),
}


@pytest.mark.parametrize("how", ODD)
def test_no_door_lets_a_reward_that_is_not_finite_in(host, rollout, how):
    make, message = ODD[how]
    with pytest.raises(RewardError, match=message):
        score_rollout(host, rollout, Odd(make))
    images = [rollout.groups()[0].image(index) for index in range(3)]
    with pytest.raises(RewardError, match=message):
        score_images(host, Odd(make), images, [Prompt("one red circle")] * 3)


def test_a_division_by_zero_in_a_formula_reaches_no_mean(host, rollout):
    reward = CombinedReward(
        [RednessReward(), RednessReward()], formula="reward0 / (reward1 - reward1)"
    )
    images = [rollout.groups()[0].image(index) for index in range(3)]
    with pytest.raises(RewardError, match="combined gave (inf|nan) for image 0"):
        score_images(host, reward, images, [Prompt("one red circle")] * 3)
    with pytest.raises(RewardError, match=r"combined gave (inf|nan) for 000\.png"):
        score_rollout(host, rollout, reward)


def test_a_reward_for_single_images_leaves_none_out(host, rollout):
    odd = Odd(lambda n: RewardResult(np.full(n, np.nan), left_out=np.ones(n, bool)))
    with pytest.raises(RewardError, match="left out an image"):
        score_rollout(host, rollout, odd)
    images = [rollout.groups()[0].image(0)]
    with pytest.raises(RewardError, match="gave nan"):
        score_images(host, odd, images, [Prompt("one red circle")])


class Choosy(RednessReward):
    """Judges no prompt with these words."""

    def __init__(self, *words):
        super().__init__()
        self.words = words

    def check_prompt(self, prompt):
        if any(word in prompt.text for word in self.words):
            raise InputError("prompts", f"{prompt.text!r} is not for it", "Use others.")

    def check_prompts(self, prompts):
        for prompt in prompts:
            self.check_prompt(prompt)


def test_one_prompt_of_many_that_cannot_be_judged_is_left_out_and_counted(
    bundled_model, host, caplog
):
    prompts = from_text("\n".join(f"one red circle and {n} blue square" for n in ("", *NUMBERS)))
    config = RolloutConfig(images_per_prompt=2, steps=1, run_name="many")
    rollout = sample_rollout(host, bundled_model, prompts, config)
    scores = score_rollout(host, rollout, Choosy("seven")).scores()
    assert np.isnan(scores).sum() == 2
    assert np.isnan(scores).all(1).tolist().index(True) == 7
    assert "leaves out 1 of 11 prompts that it cannot judge" in caplog.text
    with pytest.raises(InputError, match="is not for it"):
        score_rollout(host, rollout, Choosy("seven", "two"))
