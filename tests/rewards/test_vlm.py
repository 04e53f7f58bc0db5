"""The VLM reward, against a real server on loopback that misbehaves."""

import logging
import threading
import time

import numpy as np
import pytest
from judge_server import (
    COSY,
    Reply,
    by_light,
    completion,
    grey,
    pictures,
    reward_at,
    score,
    serving,
    with_tokens,
)

from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards import Reward, RewardError
from gdro_comfy.rewards.base import announce
from gdro_comfy.rewards.rubric import question, unified_reward


def test_every_image_gets_the_answer_to_its_own_question():
    with serving(by_light) as server:
        reward = reward_at(server)
        result = score(reward, pictures(5))
    assert isinstance(reward, Reward)
    assert result.values.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert result.values.dtype == np.float32
    assert result.details[4] == {"score": 5, "answer": '{"score": 5}'}
    request = server.requests[0]
    assert request.path == "/v1/chat/completions"
    assert request.body["response_format"]["json_schema"]["strict"] is True
    assert request.body["temperature"] == 0
    assert "How cosy" in request.question
    assert "Authorization" not in request.headers


def test_questions_are_asked_at_once_up_to_the_limit():
    def slow(request):
        time.sleep(0.05)
        return by_light(request)

    with serving(slow) as server:
        score(reward_at(server, concurrency=3), pictures(12))
    assert len(server.requests) == 12
    assert 2 <= server.peak <= 3


def test_token_probabilities_tell_equal_answers_apart():
    def undecided(request):
        light = float(np.asarray(request.image).mean() / 255)
        probabilities = {"4": 0.6, "5": 0.1 + 0.2 * light, "3": 0.3 - 0.2 * light}
        tokens = [('{"score": ', {}), ("4", probabilities), ("}", {})]
        return Reply(with_tokens(completion('{"score": 4}'), tokens))

    with serving(undecided) as server:
        values = score(reward_at(server), pictures(3)).values
    assert values == pytest.approx([(3.8 - 1) / 4, (4 - 1) / 4, (4.2 - 1) / 4], abs=1e-3)


def test_unified_reward_s_three_scores_are_read_without_a_schema():
    lines = "Alignment Score (1-5): 5\nCoherence Score (1-5): 4\nStyle Score (1-5): 3"
    with serving(lambda request: Reply(completion(lines))) as server:
        result = score(reward_at(server, unified_reward()), [grey(9)])
    assert result.values[0] == pytest.approx(0.75)
    assert result.details[0]["coherence"] == 4
    assert "response_format" not in server.requests[0].body
    assert "[room 0]" in server.requests[0].question


TEMPORARY_FAILURES = {
    "too many requests": Reply({"error": "slow down"}, 429),
    "server error": Reply({"error": "oops"}, 500),
    "bad gateway in HTML": Reply(b"<html>no</html>", 502, {"Content-Type": "text/html"}),
    "half JSON": Reply(b'{"choices": [{"mess'),
    "a page instead of JSON": Reply(b"<html>hello</html>", 200, {"Content-Type": "text/html"}),
    "JSON of another kind": Reply({"models": []}),
    "a closed connection": Reply(hang_up=True),
    "a shorter body than promised": Reply(b"{}", headers={"Content-Length": "900"}),
    "no score": Reply(completion("Lovely!")),
}


@pytest.mark.parametrize("first", TEMPORARY_FAILURES.values(), ids=TEMPORARY_FAILURES)
def test_the_question_is_repeated_after_a_failure_that_may_pass(first):
    with serving(lambda r: first if r.number == 1 else by_light(r)) as server:
        assert score(reward_at(server, time_limit=2), [grey(255)]).values[0] == 1
    assert len(server.requests) == 2


@pytest.mark.parametrize("header", ["0.4", "date"])
def test_retry_after_is_honoured(header):
    from email.utils import formatdate

    def busy_once(request):
        if request.number > 1:
            return by_light(request)
        when = formatdate(time.time() + 2, usegmt=True) if header == "date" else header
        return Reply({}, 429, {"Retry-After": when})

    with serving(busy_once) as server:
        assert score(reward_at(server), [grey(0)]).values[0] == 0
        waited = server.requests[1].time - server.requests[0].time
    assert waited > 0.35  # first_wait is 0.01


def test_a_server_that_never_recovers_is_named_with_its_message():
    with serving(lambda request: Reply({"error": "out of memory"}, 500)) as server:
        with pytest.raises(RewardError, match="failed 3 times.*500.*out of memory"):
            score(reward_at(server, retries=2), [grey(0)])
        assert len(server.requests) == 3


@pytest.mark.parametrize("delay", [{"after": 60}, {"drip": 0.2}], ids=["silent", "dripping"])
def test_an_answer_that_takes_too_long_is_given_up(delay):
    reply = Reply(completion('{"score": 3}'), **delay)
    with serving(lambda request: reply) as server:
        start = time.monotonic()
        with pytest.raises(RewardError, match="no answer within 1 s"):
            score(reward_at(server, time_limit=1, retries=0), [grey(0)])
        assert time.monotonic() - start < 20  # the reply itself would take a minute or half


def test_cancelling_ends_a_hanging_call_and_keeps_the_answers(tmp_path):
    cancel = threading.Event()

    def check():
        if cancel.is_set():
            raise Cancelled

    def answer(request):
        if np.asarray(request.image).mean() < 200:
            return by_light(request)
        cancel.set()
        return Reply(completion("5"), after=600)

    with serving(answer) as server:
        with pytest.raises(Cancelled):
            score(reward_at(server, folder=tmp_path, concurrency=1), pictures(5), check)
        assert len(server.requests) == 5
        while any(t.name == "gdro-judge" for t in threading.enumerate()):
            time.sleep(0.01)  # the call itself ends too, long before its 600 s
    assert len(next(tmp_path.glob("vlm-*.jsonl")).read_text().splitlines()) == 4


def test_a_failure_late_in_a_batch_loses_nothing(tmp_path):
    broken = True

    def answer(request):
        return Reply({}, 500) if broken and request.number > 50 else by_light(request)

    images = pictures(60)
    with serving(answer) as server:
        with pytest.raises(RewardError, match="answers that came are kept"):
            score(reward_at(server, folder=tmp_path, retries=0), images)
        broken, before = False, len(server.requests)
        again = score(reward_at(server, folder=tmp_path), images)
        # Up to three others were in flight when the first one failed, and are asked again.
        total = len(server.requests)
        assert 10 <= total - before <= 13
        score(reward_at(server, folder=tmp_path), images)
        assert len(server.requests) == total
    assert again.values[-1] == 1


def test_another_question_is_asked_anew(tmp_path):
    with serving(by_light) as server:
        score(reward_at(server, folder=tmp_path), [grey(0)])
        score(reward_at(server, question("How dark?", 1, 5), folder=tmp_path), [grey(0)])
    assert len(server.requests) == 2


REFUSALS = {
    "refusal": completion(None, refusal="I can't help with that."),
    "filter": completion("", finish="content_filter"),
    "words": completion("I'm sorry, I can't judge people."),
    "null": completion('{"score": null}'),
}


@pytest.mark.parametrize("body", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_is_never_a_silent_zero(body, tmp_path):
    def answer(request):
        return Reply(body) if np.asarray(request.image).mean() > 250 else by_light(request)

    with serving(answer) as server:
        with pytest.raises(RewardError, match=r"image 2 of 'room 2' was not judged"):
            score(reward_at(server, folder=tmp_path), pictures(3))
        before = len(server.requests)
        result = score(reward_at(server, on_refusal="worst score", folder=tmp_path), pictures(3))
        # The other two are known; the refused question may have been repeated once.
        assert len(server.requests) - before <= 2
    assert result.values.tolist() == [0, 0.5, 0]
    assert result.details[2]["refused"]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("logprobs is not supported", "logprobs"),
        ("response_format: json_schema is not available", "response_format"),
        ("Unsupported value: 'temperature'", "temperature"),
        ("use 'max_completion_tokens' instead", "max_tokens"),
    ],
)
def test_what_a_server_does_not_support_is_left_out_from_then_on(message, field):
    def answer(request):
        return Reply({"error": message}, 400) if field in request.body else by_light(request)

    with serving(answer) as server:
        reward = reward_at(server, concurrency=1)
        assert score(reward, pictures(3)).values.tolist() == [0, 0.5, 1]
    assert sum(field in request.body for request in server.requests) == 1
    assert ("max_completion_tokens" in server.requests[-1].body) == (field == "max_tokens")


def test_a_server_that_only_says_bad_request_gets_the_plain_question():
    def answer(request):
        plain = not {"logprobs", "response_format"} & set(request.body)
        return by_light(request) if plain else Reply({"error": "bad request"}, 400)

    with serving(answer) as server:
        assert score(reward_at(server), [grey(255)]).values[0] == 1


def test_the_cost_is_logged_before_the_first_call(caplog):
    caplog.set_level(logging.INFO)
    with serving(by_light) as server:
        reward = reward_at(server, price=2.0)
        announce(reward, 600, (1024, 1024))
        assert not server.requests
    image_tokens = 37 * 37  # 1024 / 28, rounded up
    text_tokens = 50 + len(COSY.instructions) // 4
    assert f"600 calls to eye at 127.0.0.1:{server.server_address[1]}" in caplog.text
    assert f"{image_tokens:,} image tokens and {text_tokens:,} text tokens" in caplog.text
    price = 600 * (image_tokens + text_tokens) / 1e6 * 2
    assert f"about {price:.2f} at 2 a million" in caplog.text


def test_the_stage_scores_a_rollout_and_does_not_ask_twice(host, bundled_model):
    """As the node does it: inputs of a workflow, groups of the bundled model, a server."""
    from gdro_comfy.data.prompts import from_text
    from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
    from gdro_comfy.rollouts.scoring import score_rollout
    from gdro_comfy.stages import STAGES
    from gdro_comfy.stages.inputs import complete, nest

    config = RolloutConfig(images_per_prompt=4, steps=1, run_name="trial")
    groups = sample_rollout(
        host, bundled_model, from_text("one red circle\ntwo blue squares"), config
    )
    stage = STAGES["GDRO_VLMReward"]
    with serving(by_light) as server:
        flat = {
            "ask": "question",
            "ask.question": "How bright is {prompt}?",
            "answered_by": "endpoint",
            "answered_by.address": server.address,
            "answered_by.model": "eye",
            "on_refusal": "stop",
        }
        for _ in range(2):
            inputs = complete(stage.inputs, nest(stage.inputs, flat))
            reward, summary = stage(host, **inputs)
            scored = score_rollout(host, groups, reward)
        assert len(server.requests) == 8
    questions = {request.question.split("\n")[0] for request in server.requests}
    assert "How bright is two blue squares?" in questions
    assert np.isfinite(scored.scores()).all()
    assert "1,000 calls to eye" in summary
    assert list((host.output_dir / "gdro" / "answers").glob("vlm-*.jsonl"))


def test_the_stage_refuses_an_empty_address_and_an_unknown_folder(host):
    from gdro_comfy.stages import STAGES
    from gdro_comfy.stages.inputs import complete, nest

    stage = STAGES["GDRO_VLMReward"]
    for judge, name in (("endpoint", "address"), ("local model", "folder")):
        flat = {"ask": "UnifiedReward", "answered_by": judge, f"answered_by.{name}": ""}
        with pytest.raises(InputError) as error:
            stage(host, **complete(stage.inputs, nest(stage.inputs, flat)))
        assert error.value.input_name == name
