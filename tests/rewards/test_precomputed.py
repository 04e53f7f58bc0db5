"""Rewards made of numbers from the graph: in order, for these images only, with errors that name them."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.headless import workflow
from gdro_comfy.rewards.precomputed import PrecomputedReward, read_numbers
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.base import Input, Output, Stage
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.online import Rounds

PROMPTS = from_text("one red circle\ntwo blue squares\na star")
CONFIG = RolloutConfig(images_per_prompt=4, steps=1, run_name="trial")


@pytest.fixture
def rollout(bundled_model, host):
    return sample_rollout(host, bundled_model, PROMPTS, CONFIG)


def from_graph(host, rollout, scores, name="mine"):
    return STAGES["GDRO_ScoresFromGraph"](host, rollout=rollout, scores=scores, name=name)[0]


def test_images_leave_in_the_order_in_which_numbers_are_read(host, rollout):
    images, prompts = STAGES["GDRO_RolloutImages"](host, rollout=rollout)
    assert Counter(prompts) == {prompt.text: 4 for prompt in PROMPTS}
    assert [tuple(image.shape) for image in images] == [(1, 64, 64, 3)] * 12
    redness = [float(i[..., 0].mean() - i[..., 1:].mean()) for i in images]
    scored = score_rollout(host, rollout, from_graph(host, rollout, redness))
    expected = score_rollout(host, rollout, RednessReward(2.0)).scores() - 1
    assert np.allclose(scored.scores(), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (
            [1.0] * 11,
            r"11 came for 12 pictures \(3 prompts with 4 each\).*picture 4 of 'a star'",
        ),
        ([1.0] * 13, "13 came for 12 pictures.*belong to no picture"),
        ([], "0 came for 12 pictures.*picture 1 of 'one red circle'"),
        ([1] * 5 + [math.nan] + [1] * 6, "picture 2 of 'two blue squares' got nan"),
        ([1] * 11 + [math.inf], "picture 4 of 'a star' got inf"),
        (["7"] + [1] * 11, "picture 1 of 'one red circle' got '7' where a number should be"),
        ([1] * 4 + [True] + [1] * 7, "picture 1 of 'two blue squares' got True"),
        ([[1, 2]] + [1] * 11, "picture 1 of 'one red circle' got a list"),
        ([None] + [1] * 11, "got a NoneType"),
    ],
)
def test_wrong_numbers_name_the_image(host, rollout, scores, message):
    with pytest.raises(InputError, match=message):
        from_graph(host, rollout, scores)


def test_integers_and_numpy_numbers_are_read(rollout):
    values = read_numbers(rollout, [1, np.float32(0.5), np.int64(3), *[0.0] * 9])
    assert values.tolist() == [[1, 0.5, 3, 0], [0] * 4, [0] * 4]


def test_a_part_of_the_rollout_keeps_its_numbers(bundled_model, host, rollout):
    reward = from_graph(host, rollout, list(range(12)))
    part = sample_rollout(host, bundled_model, from_text("two blue squares"), CONFIG)
    assert score_rollout(host, part, reward).scores().tolist() == [[4, 5, 6, 7]]
    assert score_rollout(host, rollout, reward).scores().tolist()[2] == [8, 9, 10, 11]


def test_images_without_a_number_are_refused(bundled_model, host, rollout):
    reward = from_graph(host, rollout, [1.0] * 12)
    elsewhere = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(images_per_prompt=4, steps=2, run_name="trial")
    )
    with pytest.raises(InputError, match="its numbers are for the pictures of trial-"):
        score_rollout(host, elsewhere, reward)
    grown = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(images_per_prompt=5, steps=1, run_name="trial")
    )
    with pytest.raises(InputError, match="no number for picture 5 of 'one red circle'"):
        score_rollout(host, grown, reward)


def test_it_is_refused_where_new_images_are_made(host, rollout):
    reward = PrecomputedReward("mine", rollout, np.ones((3, 4), np.float32), "the graph")
    with pytest.raises(InputError, match="mine has numbers for the pictures of trial-"):
        reward.check_prompts(rollout.prompts)
    with pytest.raises(InputError, match="another reward for rounds"):
        Rounds(rounds=2).check(10, reward, GDRO())
    Rounds(rounds=1).check(10, reward, GDRO())


def test_other_numbers_are_other_scores(host, rollout):
    one = score_rollout(host, rollout, from_graph(host, rollout, [1.0] * 12))
    two = score_rollout(host, rollout, from_graph(host, rollout, [2.0] * 12))
    assert (one.scores().max(), two.scores().min()) == (1.0, 2.0)


@pytest.mark.parametrize("name", ["", "Über", "a b", "../x", "1st"])
def test_names_that_no_file_can_have_are_refused(host, rollout, name):
    with pytest.raises(InputError, match="cannot name a reward"):
        from_graph(host, rollout, [1.0] * 12, name)


COUNT = Stage(
    lambda host, many: (list(range(many)), "one"),
    "Count", "", (Input("many", "INT", default=3),),
    (Output("each", "INT", is_list=True), Output("word", "STRING")),
)  # fmt: skip
JOIN = Stage(
    lambda host, a, b: (f"{a}{b}",),
    "Join", "", (Input("a", "*"), Input("b", "*")), (Output("text", "STRING"),),
)  # fmt: skip
GATHER = Stage(
    lambda host, all, kind: (f"{kind}: {','.join(map(str, all))}",),
    "Gather", "", (Input("all", "*", is_list=True), Input("kind", "STRING", default="k")),
    (Output("text", "STRING"),), True,
)  # fmt: skip
LISTS = {"Count": COUNT, "Join": JOIN, "Gather": GATHER}


def run(tmp_path, host, document):
    path = tmp_path / "lists.json"
    path.write_text(json.dumps(document))
    return workflow.run(workflow.load(path, LISTS), host, LISTS)


def lists(**nodes):
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def test_without_comfyui_a_list_runs_the_next_node_for_each_item(tmp_path, host):
    graph = lists(
        long=("Count", {"many": 3}), short=("Count", {"many": 2}),
        join=("Join", {"a": ["long", 0], "b": ["short", 0]}),
        word=("Join", {"a": ["long", 0], "b": ["long", 1]}),
        out=("Gather", {"all": ["join", 0]}), out2=("Gather", {"all": ["word", 0], "kind": "x"}),
    )  # fmt: skip
    outputs = run(tmp_path, host, graph)
    assert outputs["join"] == (["00", "11", "21"],)  # the shorter list repeats its last item
    assert outputs["out"] == ("k: 00,11,21",)
    assert outputs["out2"] == ("x: 0one,1one,2one",)
    assert outputs["long"] == ([0, 1, 2], "one")


def test_lists_for_a_single_value_and_empty_lists_are_refused(tmp_path, host):
    graph = lists(
        long=("Count", {"many": 3}),
        join=("Join", {"a": ["long", 0], "b": 1}),
        out=("Gather", {"all": ["long", 0], "kind": ["join", 0]}),
    )
    with pytest.raises(InputError, match="kind: 3 values came in a list"):
        run(tmp_path, host, graph)
    graph = lists(
        long=("Count", {"many": 0}), join=("Join", {"a": ["long", 0], "b": 1}),
        out=("Gather", {"all": ["join", 0]}),
    )  # fmt: skip
    with pytest.raises(InputError, match="a: the list is empty"):
        run(tmp_path, host, graph)
