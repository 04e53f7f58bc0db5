"""Presets of the VLM reward: their scales, checklists, and what is refused."""

import pytest
from recording_host import RecordingHost
from scripted_judge import grey

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards import create
from gdro_comfy.rewards.presets import checklist, follows_the_prompt, hands_and_faces
from gdro_comfy.rewards.rubric import Answer, UnreadableAnswer
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.inputs import complete, nest


class Replying:
    """A judge that gives the same answer to every question."""

    def __init__(self, text):
        self.text, self.asked, self.identity = text, [], {"text": text}

    def check(self):
        pass

    def ask(self, questions, rubric, check_cancelled):
        for index, (_, text) in enumerate(questions):
            self.asked.append(text)
            yield index, Answer(self.text)


def score(rubric, text, prompt="two red apples"):
    judge = Replying(text)
    result = create("vlm", rubric=rubric, judge=judge).score([grey(0.5)], [Prompt(prompt)])
    return result, judge.asked[0]


@pytest.mark.parametrize(("points", "value"), [(1, 0.0), (4, 0.75), (5, 1.0)])
@pytest.mark.parametrize("preset", [follows_the_prompt, hands_and_faces])
def test_presets_go_from_one_to_five_in_one_digit(preset, points, value):
    rubric = preset()
    assert rubric.one_digit
    result, _ = score(rubric, f'{{"score": {points}}}')
    assert result.values.tolist() == [value]


def test_the_prompt_is_in_the_question_where_it_matters():
    assert "made from this prompt: two red apples" in score(follows_the_prompt(), "5")[1]
    assert "two red apples" not in score(hands_and_faces(), "5")[1]


def test_a_checklist_is_worth_its_share_of_yes():
    rubric = checklist("Are there {prompt}?\n\n  Is the sky dark?  \nIs it free of text?")
    result, asked = score(rubric, '{"q1": 1, "q2": 0, "q3": 1}')
    assert result.values[0] == pytest.approx(2 / 3)
    assert {key: result.details[0][key] for key in ("q1", "q2", "q3")} == {
        "q1": 1,
        "q2": 0,
        "q3": 1,
    }
    assert "q1: Are there two red apples?\nq2: Is the sky dark?\nq3: Is it free of text?" in asked
    assert list(rubric.schema()["properties"]) == ["q1", "q2", "q3"]


def test_a_checklist_of_ten_tells_the_first_from_the_tenth():
    rubric = checklist("\n".join(f"Is {i} there?" for i in range(10)))
    answer = ", ".join(f'"q{i}": {int(i == 10)}' for i in range(1, 11))
    assert score(rubric, f"{{{answer}}}")[0].values[0] == pytest.approx(0.1)


def test_an_answer_without_one_of_the_questions_is_unreadable():
    with pytest.raises(UnreadableAnswer, match="there is no q2"):
        checklist("a?\nb?").read(Answer('{"q1": 1}'))
    with pytest.raises(UnreadableAnswer, match="off the scale"):
        checklist("a?\nb?").read(Answer('{"q1": 1, "q2": 5}'))


@pytest.mark.parametrize(
    ("text", "message"), [(" \n ", "there is none"), ("a?\n" * 21, "there are 21")]
)
def test_empty_and_endless_lists_are_refused(text, message):
    with pytest.raises(InputError, match=f"questions: {message}"):
        checklist(text)


@pytest.mark.parametrize(
    ("flat", "scores"),
    [
        ({"ask": "follows the prompt"}, ("score",)),
        ({"ask": "hands and faces"}, ("score",)),
        ({"ask": "checklist", "ask.questions": "a?\nb?"}, ("q1", "q2")),
        ({"ask": "UnifiedReward"}, ("alignment", "coherence", "style")),
        ({"ask": "question", "ask.worst": 0, "ask.best": 9}, ("score",)),
    ],
)
def test_the_node_makes_each_of_them(tmp_path, flat, scores):
    stage = STAGES["GDRO_VLMReward"]
    flat = {**flat, "answered_by": "endpoint", "answered_by.model": "eye",
            "answered_by.address": "http://localhost:1/v1"}  # fmt: skip
    reward, _ = stage(RecordingHost(tmp_path), **complete(stage.inputs, nest(stage.inputs, flat)))
    assert reward.rubric.scores == scores
