"""From a model's answer to a number."""

import math

import pytest

from gdro_comfy.errors import InputError
from gdro_comfy.rewards.rubric import Answer, Token, UnreadableAnswer, question, unified_reward

COSY = question("How cosy?", 1, 5)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('{"score": 4}', 4),
        ('```json\n{"score": "4"}\n```', 4),
        ('{"reason": "I first thought score: 2", "score": 3.5}', 3.5),
        ("Score: 4", 4),
        ("**Score:** 4/5", 4),
        ("score (1-5): 2", 2),
        ("4", 4),
        ("I would say 4 out of 5.", 4),
        ("On a scale of 1 to 5, this is a 2", 2),
        ("4,5", 4.5),
        ("<think>score: 1, no, 2</think>\nScore: 3", 3),
    ],
)
def test_usual_forms_of_a_score_are_read(text, score):
    assert COSY.read(Answer(text)) == {"score": score}


@pytest.mark.parametrize(
    "text",
    ["", "I cannot judge this.", '{"score": 7}', '{"score": -1}', '{"sco', "2 sofas and 3 lamps"],
)
def test_an_answer_without_a_score_on_the_scale_is_not_guessed_at(text):
    with pytest.raises(UnreadableAnswer):
        COSY.read(Answer(text))


def test_a_truncated_number_is_not_read():
    percent = question("How full?", 0, 100)
    assert percent.read(Answer('{"score": 45}')) == {"score": 45}
    with pytest.raises(UnreadableAnswer, match="token limit"):
        percent.read(Answer('{"score": 4', truncated=True))


def test_the_expected_score_by_hand():
    probabilities = {"4": 0.6, "5": 0.2, " 3": 0.1, "very": 0.1}
    tokens = (Token('{"score": '), Token("4", probabilities), Token("}"))
    answer = Answer('{"score": 4}', tokens)
    assert COSY.read(answer)["score"] == pytest.approx((4 * 0.6 + 5 * 0.2 + 3 * 0.1) / 0.9)


def test_probabilities_that_say_nothing_about_the_score_are_ignored():
    for probabilities in ({"4": 0.1, "cosy": 0.9}, {"4": math.nan, "5": 0.5}):
        assert COSY.read(Answer("4", (Token("4", probabilities),)))["score"] == 4
    ten = question("How cosy?", 1, 10)  # "1" may be the beginning of "10"
    assert ten.read(Answer("1", (Token("1", {"1": 0.6, "9": 0.4}),)))["score"] == 1


def test_unified_reward_reads_three_lines():
    text = "Alignment Score (1-5): 4.5\nCoherence Score (1-5): 3\nStyle Score (1-5): 2"
    rubric = unified_reward()
    scores = rubric.read(Answer(text))
    assert scores == {"alignment": 4.5, "coherence": 3, "style": 2}
    assert rubric.value(scores) == pytest.approx((9.5 / 3 - 1) / 4)
    assert "[a red fox]" in rubric.question("a red fox")
    with pytest.raises(UnreadableAnswer, match="no style"):
        rubric.read(Answer(text.rsplit("\n", 1)[0]))


def test_the_worst_end_may_be_the_larger_one():
    noise = question("How much noise?", worst=5, best=1)
    assert noise.value({"score": 2}) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("arguments", "name"), [({"question": "  "}, "question"), ({"worst": 3, "best": 3}, "best")]
)
def test_questions_that_cannot_be_asked_are_refused(arguments, name):
    with pytest.raises(InputError) as error:
        question(**{"question": "How cosy?", **arguments})
    assert error.value.input_name == name


def test_the_schema_allows_the_numbers_of_the_scale():
    assert COSY.schema()["properties"] == {"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}
    assert question("?", 0, 1).schema()["properties"] == {"score": {"type": "number"}}
    assert list(question("?", 0, 3, True).schema()["properties"]) == ["reason", "score"]
