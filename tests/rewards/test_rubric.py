"""From what a model writes to a number."""

import pytest

from gdro_comfy.errors import InputError
from gdro_comfy.rewards.rubric import Answer, Token, Unreadable, question, unified_reward

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
def test_a_score_is_read_in_every_usual_form(text, score):
    assert COSY.read(Answer(text)) == {"score": score}


@pytest.mark.parametrize(
    "text",
    ["", "I cannot judge this.", '{"score": 7}', '{"score": -1}', '{"sco', "2 sofas and 3 lamps"],
)
def test_an_answer_without_a_score_on_the_scale_is_not_guessed_at(text):
    with pytest.raises(Unreadable):
        COSY.read(Answer(text))


def test_a_number_that_was_cut_is_not_taken_for_whole():
    percent = question("How full?", 0, 100)
    assert percent.read(Answer('{"score": 45}')) == {"score": 45}
    with pytest.raises(Unreadable, match="token limit"):
        percent.read(Answer('{"score": 4', cut=True))


def test_the_expected_score_by_hand():
    likely = {"4": 0.6, "5": 0.2, " 3": 0.1, "very": 0.1}
    answer = Answer('{"score": 4}', (Token('{"score": '), Token("4", likely), Token("}")))
    assert COSY.read(answer)["score"] == pytest.approx((4 * 0.6 + 5 * 0.2 + 3 * 0.1) / 0.9)


def test_probabilities_that_say_nothing_are_left_alone():
    unlike = {"4": 0.1, "cosy": 0.9}
    assert COSY.read(Answer("4", (Token("4", unlike),)))["score"] == 4
    ten = question("How cosy?", 1, 10)  # "1" may go on to "10"
    assert ten.read(Answer("1", (Token("1", {"1": 0.6, "9": 0.4}),)))["score"] == 1


def test_unified_reward_reads_three_lines():
    text = "Alignment Score (1-5): 4.5\nCoherence Score (1-5): 3\nStyle Score (1-5): 2"
    rubric = unified_reward()
    scores = rubric.read(Answer(text))
    assert scores == {"alignment": 4.5, "coherence": 3, "style": 2}
    assert rubric.value(scores) == pytest.approx((9.5 / 3 - 1) / 4)
    assert "[a red fox]" in rubric.text("a red fox")
    with pytest.raises(Unreadable, match="no style"):
        rubric.read(Answer(text.rsplit("\n", 1)[0]))


def test_less_may_be_better():
    noise = question("How much noise?", worst=5, best=1)
    assert noise.value({"score": 2}) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("given", "name"), [({"question": "  "}, "question"), ({"worst": 3, "best": 3}, "best")]
)
def test_questions_that_cannot_be_asked(given, name):
    with pytest.raises(InputError) as error:
        question(**{"question": "How cosy?", **given})
    assert error.value.input_name == name


def test_the_schema_allows_what_the_scale_has():
    assert COSY.schema()["properties"] == {"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}
    assert question("?", 0, 1).schema()["properties"] == {"score": {"type": "number"}}
    assert list(question("?", 0, 3, True).schema()["properties"]) == ["reason", "score"]
