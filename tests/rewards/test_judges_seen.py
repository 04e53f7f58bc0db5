"""Answers and faults as public servers and models send them: read by one rule, or not repeated in vain."""

import pytest
from judge_server import COSY, Reply, completion, grey, reward_at, score, serving

from gdro_comfy.errors import InputError
from gdro_comfy.rewards import RewardError
from gdro_comfy.rewards.rubric import Answer, UnreadableAnswer, question

THOUGHTS = [
    "<think>maybe score: 2, or 3</think>",
    "First I thought score: 2.</think>\n",
    "The two circles are 3 times larger.</think>",
    "<thinking>score: 2</thinking>\n",
    "<seed:think>score: 2</seed:think>",
    "[THINK]score: 2[/THINK]",
    "◁think▷score: 2◁/think▷",
    "<|channel|>analysis<|message|>score: 2<|end|><|start|>assistant<|channel|>final<|message|>",
    "<think>score: 1</think><think>score: 2</think>",
]


@pytest.mark.parametrize(
    "answer", ["4", '{"score": 4}', "Score: 4/5", "<answer>4</answer>", "\\boxed{4}"]
)
@pytest.mark.parametrize("thoughts", THOUGHTS)
def test_the_answer_after_the_thoughts_counts(thoughts, answer):
    assert COSY.read(Answer(thoughts + answer)) == {"score": 4}


@pytest.mark.parametrize(
    "thoughts", ["<think>score: 2", "[THINK]2", "◁think▷ it is a 2", "score: 2</think>"]
)
def test_thoughts_alone_are_no_answer(thoughts):
    with pytest.raises(UnreadableAnswer):
        COSY.read(Answer(thoughts))


@pytest.mark.parametrize(
    ("ends", "text", "expected"),
    [
        ((1, 5), "Score: 4/5", 4), ((1, 5), "4 out of 5", 4), ((0, 100), "Score: 80%", 80),
        ((0, 10), '{"score": 1e1}', 10), ((0, 10), '{"score": "7,5"}', 7.5), ((0, 1), '{"score": 0.8}', 0.8),
        ((1, 5), "Overall score: 4", 4), ((1, 5), "Score: 4\n(composition score: 3)", 4),
        ((1, 5), '{"score": 2}\nOn reflection: {"score": 4}', 4),
    ],
)  # fmt: skip
def test_fractions_and_percents_count_on_their_own_scale(ends, text, expected):
    assert question("How good?", *ends).read(Answer(text)) == {"score": expected}


@pytest.mark.parametrize(
    ("ends", "text"),
    [
        ((1, 5), "Score: 4/10"), ((1, 5), "Score: 4 out of 10"), ((1, 5), "4/10"), ((0, 1), "Score: 1%"),
        ((0, 1), "Score: 80%"), ((1, 5), "Score: 4 percent"), ((1, 5), "Score: 3-4"), ((1, 5), "3–4"),
        ((1, 5), "Score: 3 to 4"), ((1, 5), "Score: 3 or 4"), ((1, 5), "colour score: 3\nshape score: 4"),
        ((1, 5), '{"score": 1e9}'),
    ],
)  # fmt: skip
def test_numbers_of_other_scales_and_ranges_are_no_score(ends, text):
    with pytest.raises(UnreadableAnswer):
        question("How good?", *ends).read(Answer(text))


def test_of_a_cut_answer_only_a_score_at_its_beginning_counts():
    assert COSY.read(Answer('{"score": 4, "reason": "The', truncated=True)) == {"score": 4}
    assert COSY.read(Answer("4", truncated=True)) == {"score": 4}
    with pytest.raises(UnreadableAnswer, match="ends before its score"):
        COSY.read(Answer("First I think score: 2 because", truncated=True))


def outcome(body, status=200):
    """What comes of a server that answers this to everything, and how many requests that took."""
    with serving(lambda request: Reply(body, status)) as server:
        try:
            result = score(reward_at(server, retries=2), [grey(0)]).values.tolist()
        except (InputError, RewardError) as error:
            result = error
        return result, len(server.requests)


def test_a_content_in_parts_is_its_text_without_the_thoughts():
    parts = [{"type": "thinking", "thinking": "score: 2"}, {"type": "text", "text": '{"score": 4}'}]
    assert outcome(completion(parts)) == ([0.75], 1)


@pytest.mark.parametrize("content", [None, ""])
@pytest.mark.parametrize(
    ("finish", "words"), [("length", "used up max_tokens"), ("stop", "thoughts and no answer")]
)
def test_thoughts_without_an_answer_are_not_asked_for_again(content, finish, words):
    error, requests = outcome(
        completion(content, finish, reasoning_content="long thoughts: score 2")
    )
    assert words in str(error)
    assert requests == 1


def test_an_answer_that_did_not_stop_by_itself_is_none():
    error, _ = outcome(completion("Generation failed: score: 4", "error"))
    assert isinstance(error, RewardError)
    assert "stopped with 'error'" in str(error)


FAULTS = [
    ({"error": {"message": "Vision add-on is not loaded, but images were provided"}}, 200, "model"),
    ({"error": "Model does not support images. Please use a model that does."}, 200, "model"),
    (
        {"error": {"message": "image input is not supported - you may need the mmproj"}},
        500,
        "model",
    ),
    ({"error": {"message": "this model is missing data required for image input"}}, 400, "model"),
    ({"error": {"message": "No endpoints found that support image input"}}, 404, "model"),
    ({"error": {"message": "Insufficient credits"}}, 402, "address"),
    ({"error": {"message": "over", "type": "insufficient_quota"}}, 429, "address"),
    ({"error": {"message": "API key not valid", "code": 401}}, 200, "address"),
    ([{"error": {"message": "API key not valid."}}], 400, "address"),
    ({"error": "forbidden"}, 403, "address"),
    ({"error": "Request Entity Too Large"}, 413, "longest_side"),
]


@pytest.mark.parametrize(("body", "status", "name"), FAULTS)
def test_a_fault_that_lasts_is_not_repeated_and_names_the_input(body, status, name):
    error, requests = outcome(body, status)
    assert isinstance(error, InputError)
    assert error.input_name == name
    assert requests == 1


def test_an_error_in_a_good_status_is_repeated_if_it_may_pass():
    error, requests = outcome({"error": {"message": "Provider returned error", "code": 502}})
    assert isinstance(error, RewardError)
    assert requests == 3


@pytest.mark.parametrize(
    "words",
    [
        ("Unsupported parameter: 'max_tokens' is not supported", "max_tokens", 400),
        ("'temperature' does not support 0 with this model", "temperature", 400),
        ("You are not allowed to request logprobs from this model", "logprobs", 403),
        ("Logprobs is not enabled for models/x", "logprobs", 400),
        ("GenerateContentRequest.response_schema.properties[score].enum", "response_format", 400),
    ],
)
def test_what_a_server_turns_down_is_left_out(words):
    message, part, status = words

    def answer(request):
        if part in request.body:
            return Reply({"error": {"message": message}}, status)
        return Reply(completion('{"score": 4}'))

    with serving(answer) as server:
        assert score(reward_at(server), [grey(0)]).values.tolist() == [0.75]
        assert len(server.requests) == 2


@pytest.mark.parametrize("logprobs", [
    {"tokens": ["4"], "token_logprobs": [-0.1]},
    {"content": [{"token": "4", "logprob": None, "top_logprobs": [{"token": "4", "logprob": None}]}]},
    {"content": "4"},
])  # fmt: skip
def test_token_probabilities_in_another_form_leave_the_written_score(logprobs):
    body = completion("4")
    body["choices"][0]["logprobs"] = logprobs
    assert outcome(body) == ([0.75], 1)
