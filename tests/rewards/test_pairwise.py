"""The pairwise judge: schedules, win rates, verdicts in words, and judges that are biased or fail."""

import itertools
import logging

import numpy as np
import pytest
from judge_server import Reply, completion, serving
from recording_host import RecordingHost
from scripted_judge import ScriptedJudge, grey, ranking_quality, rollout_of

from gdro_comfy.data.prompts import Prompt, from_text
from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards import create
from gdro_comfy.rewards.base import RewardError, RolloutReward
from gdro_comfy.rewards.openai_endpoint import Endpoint, EndpointConfig
from gdro_comfy.rewards.pair_rubric import comparison
from gdro_comfy.rewards.rubric import Answer, UnreadableAnswer, question
from gdro_comfy.rewards.tournament import schedule, win_rates
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.inputs import complete, nest

LIGHTER = comparison("Which is lighter, as a picture of {prompt}?")


def reward_of(judge, **settings):
    return create("pairwise", rubric=LIGHTER, judge=judge, **settings)


def score(judge, groups, **settings):
    result = reward_of(judge, **settings).score_groups(rollout_of(groups), lambda part: None)
    return result.values.reshape(len(groups), -1), result.details


def random_groups(groups, count, seed=0):
    rng = np.random.default_rng(seed)
    levels = np.stack([rng.permutation(24)[:count] / 24 for _ in range(groups)])
    return levels, [[grey(level) for level in row] for row in levels]


@pytest.mark.parametrize("count", [2, 3, 6, 7, 16])
def test_every_pair_meets_once_where_there_are_opponents_enough(count):
    pairs = schedule(count, count - 1, "a")
    assert len(pairs) == count * (count - 1) // 2
    assert {frozenset(pair) for pair in pairs} == {
        frozenset(pair) for pair in itertools.combinations(range(count), 2)
    }
    first = np.bincount([a for a, _ in pairs], minlength=count)
    assert first.max() - first.min() <= (1 if count % 2 == 0 else 0)


@pytest.mark.parametrize(
    ("count", "opponents", "met"), [(16, 6, 6), (16, 7, 8), (17, 4, 4), (24, 1, 2)]
)
def test_a_selection_gives_each_image_as_many_opponents_first_as_often_as_second(
    count, opponents, met
):
    pairs = schedule(count, opponents, "a")
    assert len({frozenset(pair) for pair in pairs}) == len(pairs) == count * met // 2
    for place in (0, 1):
        assert (
            np.bincount([pair[place] for pair in pairs], minlength=count).tolist()
            == [met // 2] * count
        )
    assert schedule(count, opponents, "a") == pairs
    assert schedule(count, opponents, "b") != pairs


def test_six_images_take_fifteen_questions():
    assert reward_of(ScriptedJudge()).calls(6) == 15
    assert reward_of(ScriptedJudge(), orders="both").calls(6) == 30
    assert reward_of(ScriptedJudge()).calls(16) == 64
    text = reward_of(ScriptedJudge()).estimate(100, 6, (64, 64))
    assert (
        text
        == "100 groups of 6 take 15 comparisons each, of two pictures: 1500 calls of 2 pictures"
    )


def test_wins_and_half_the_ties_by_hand():
    pairs = [(0, 1), (1, 2), (2, 0), (0, 3)]
    rates, met = win_rates(4, pairs, [1.0, 0.5, 0.0, None])
    assert rates.tolist() == [1.0, 0.25, 0.25, 0.5]
    assert met.tolist() == [2, 2, 2, 0]


def test_a_perfect_judge_ranks_by_quality():
    levels, groups = random_groups(4, 6)
    values, details = score(ScriptedJudge(), groups)
    assert np.allclose(values, levels.argsort(1).argsort(1) / 5)
    best = details[int(levels[0].argmax())]
    assert best == {"wins": 5, "ties": 0, "losses": 0}


@pytest.mark.parametrize("orders", ["balanced", "both"])
@pytest.mark.parametrize("count", [5, 6])
def test_a_judge_that_always_says_first_teaches_nothing_and_is_named(caplog, orders, count):
    _, groups = random_groups(4, count)
    with caplog.at_level(logging.WARNING):
        values, _ = score(ScriptedJudge(bias=9.0), groups, orders=orders)
    most = 0.5 + (0.1 if orders == "balanced" and count == 6 else 0)
    assert abs(values - 0.5).max() <= most - 0.5 + 1e-6
    assert "chose the first picture in" in caplog.text


def test_a_judge_that_ties_everything_teaches_nothing_and_is_named(caplog):
    _, groups = random_groups(3, 5)
    with caplog.at_level(logging.WARNING):
        values, details = score(ScriptedJudge(tie=9.0), groups)
    assert (values == 0.5).all()
    assert details[0] == {"wins": 0, "ties": 4, "losses": 0}
    assert "called 30 of 30 pairs a tie" in caplog.text


def test_a_judge_that_fails_half_of_the_time_still_ranks_what_it_saw(caplog):
    levels, groups = random_groups(12, 8)
    with caplog.at_level(logging.WARNING):
        values, _ = score(ScriptedJudge(failures=0.4), groups)
    assert ranking_quality(values, levels) > 0.8
    assert "no verdict on" in caplog.text
    with pytest.raises(RewardError, match=r"gave no verdict on \d+ of 336 pairs, which leaves no"):
        score(ScriptedJudge(failures=0.7), groups)


def test_a_refusal_can_stop_the_scoring_and_names_the_pair():
    _, groups = random_groups(1, 4)
    with pytest.raises(
        RewardError, match=r"images \d and \d of 'room 0' were not compared: it does not"
    ):
        score(ScriptedJudge(failures=1.0), groups, on_refusal="stop")


def test_half_a_pair_counts_for_neither_in_both_orders():
    _, groups = random_groups(6, 6)
    judge = ScriptedJudge(bias=9.0, failures=0.3)
    values, _ = score(judge, groups, orders="both")
    assert np.allclose(values, 0.5)


def test_two_orders_of_a_biased_judge_rank_better_than_one_and_than_points():
    """The bias is as large as the differences: in pairs it cancels, and points lose what their ends cut."""
    levels, groups = random_groups(30, 6)
    judge = {"noise": 0.1, "bias": 0.4}
    one, _ = score(ScriptedJudge(**judge), groups)
    both, _ = score(ScriptedJudge(**judge), groups, orders="both")
    points = np.array(
        [
            create("vlm", rubric=question("How light?"), judge=ScriptedJudge(**judge))
            .score(images, [Prompt("x")] * len(images))
            .values
            for images in groups
        ]
    )
    quality = [ranking_quality(values, levels) for values in (points, one, both)]
    assert quality[2] > quality[1] + 0.03
    assert quality[2] > quality[0] + 0.03


def test_verdicts_are_stored_in_their_order_and_never_asked_for_twice(tmp_path):
    _, groups = random_groups(2, 5)
    first = ScriptedJudge(noise=0.3)
    values, _ = score(first, groups, folder=tmp_path)
    assert len(first.asked) == 20
    again = ScriptedJudge(noise=0.3)
    assert np.array_equal(score(again, groups, folder=tmp_path)[0], values)
    assert again.asked == []
    score(again, groups, folder=tmp_path, orders="both")
    assert len(again.asked) == 20, "the other order is another question"


def test_what_came_before_a_cancel_is_kept(tmp_path):
    _, groups = random_groups(2, 5)
    judge, calls = ScriptedJudge(), itertools.count()

    def stop():
        if next(calls) == 8:
            raise Cancelled

    with pytest.raises(Cancelled):
        score(judge, groups, folder=tmp_path, check_cancelled=stop)
    before = len(judge.asked)
    score(judge, groups, folder=tmp_path)
    assert 0 < before < 20
    assert len(judge.asked) == 20


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ('{"better": "first"}', "first"),
        ('{"reason": "the second is blurred", "better": "first"}', "first"),
        ("Better: second", "second"),
        ("**Winner:** Image 2", "second"),
        ("<think>the first? no, the second</think> tie", "tie"),
        ("Image 1 is better than Image 2.", "first"),
        ("The second image is clearly better because it shows the first thing.", "second"),
        ("I prefer the second.", "second"),
        ("Both are equally good.", "tie"),
        ("second", "second"),
        ("Answer: B", "second"),
    ],
)
def test_verdicts_in_words(text, verdict):
    assert LIGHTER.read(Answer(text)) == verdict


@pytest.mark.parametrize(
    "text", ["", "4", "I cannot see images.", "The first has light, the second too."]
)
def test_answers_without_one_verdict_are_unreadable(text):
    with pytest.raises(UnreadableAnswer, match="there is (no|several) verdict"):
        LIGHTER.read(Answer(text))


def test_a_server_sees_both_pictures_in_order_and_may_fail_now_and_then():
    _, groups = random_groups(1, 4)
    groups = [[image.resize((64, 64)) for image in groups[0]]]

    def answer(request):
        if request.number % 3 == 0:
            return Reply({"error": "busy"}, status=503)
        first, second = (np.asarray(image).mean() for image in request.images)
        return Reply(completion(f'{{"better": "{"first" if first > second else "second"}"}}'))

    with serving(answer) as server:
        judge = Endpoint(EndpointConfig(server.address, "eye", first_wait=0.01))
        values, _ = score(judge, groups)
        assert server.requests[0].body["response_format"]["json_schema"]["schema"][
            "properties"
        ] == {"better": {"type": "string", "enum": ["first", "second", "tie"]}}
    assert np.array_equal(values, score(ScriptedJudge(), groups)[0])
    assert judge.estimate(10, (1024, 1024), LIGHTER).count("2,738 image tokens") == 1


def test_it_is_for_groups_only(bundled_model, host):
    reward = reward_of(ScriptedJudge(taste=lambda image: np.asarray(image)[..., 0].mean()))
    assert isinstance(reward, RolloutReward)
    reward.check_new_images()
    with pytest.raises(InputError, match="the mean of a group is always 0.5"):
        reward.check_prompts([Prompt("x")])
    with pytest.raises(InputError, match="the mean of a group is always 0.5"):
        reward.score([], [])
    config = RolloutConfig(images_per_prompt=3, steps=1, run_name="pairs")
    prompts = from_text("one red circle\ntwo blue squares")
    rollout = sample_rollout(host, bundled_model, prompts, config)
    scores = score_rollout(host, rollout, reward).scores()
    assert scores.sum(1).tolist() == [1.5, 1.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"orders": "random"}, "orders: 'random' is unknown"),
        ({"on_refusal": "worst"}, "on_refusal: 'worst' is unknown"),
        ({"opponents": 0}, "opponents: 0 is none"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        reward_of(ScriptedJudge(), **settings)


def test_the_node_says_first_what_it_costs(tmp_path):
    stage = STAGES["GDRO_PairwiseReward"]
    flat = {"question": "Which is lighter?", "answered_by": "endpoint",
            "answered_by.address": "http://localhost:1/v1", "answered_by.model": "eye"}  # fmt: skip
    reward, text = stage(
        RecordingHost(tmp_path), **complete(stage.inputs, nest(stage.inputs, flat))
    )
    assert reward.orders == "balanced"
    assert "100 groups of 6 take 15 comparisons each, of two pictures: 1,500 calls to eye" in text
    assert "100 groups of 16 take 64 comparisons each" in text
    flat["question"] = " "
    with pytest.raises(InputError, match="question: it is empty"):
        stage(RecordingHost(tmp_path), **complete(stage.inputs, nest(stage.inputs, flat)))
