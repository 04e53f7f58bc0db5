"""What is known to be refused is refused before any picture is drawn, on the node that it is about."""

import copy
from pathlib import Path

import pytest
from recording_host import RecordingHost

from gdro_comfy.errors import InputError
from gdro_comfy.headless import workflow
from gdro_comfy.headless.workflow_file import Link, Node

QUICKSTART = Path(__file__).parents[2] / "workflows" / "quickstart.json"
MODEL, PROMPTS, ROLLOUT, REWARD, SCORE, TRAIN, HELDOUT, EVALUATE = [*"2345679", "10"]
TEXT = {"source": "text", "source.text": "no quoted text\nnone here either"}
LATE = {
    "group larger than the groups": ({TRAIN: {"algorithm.group_size": 30}}, TRAIN, "group_size"),
    "rounds without a reward": ({TRAIN: {"reward": None}}, TRAIN, "reward"),
    "more rounds than steps": ({TRAIN: {"steps": 1}}, TRAIN, "rounds"),
    "one image in a new group": ({TRAIN: {"algorithm.images_per_prompt": 1}}, TRAIN, "images_per"),
    "noise levels the wrong way round": (
        {TRAIN: {"sigma_min": 0.8, "sigma_max": 0.2}}, TRAIN, "sigma_min",
    ),
    "kept references with rounds": (
        {TRAIN: {"algorithm.reference_draws": 3}}, TRAIN, "reference_draws",
    ),
    "validation without a reward": (
        {TRAIN: {"reward": None, "algorithm.rounds": 1, "validation_prompts": Link(HELDOUT, 0)}},
        TRAIN, "reward",
    ),
    "a name that is no folder": ({ROLLOUT: {"run_name": "../x"}}, ROLLOUT, "run_name"),
    "size of the groups": ({ROLLOUT: {"width": 60}}, ROLLOUT, "width"),
    "size of the evaluation": ({EVALUATE: {"height": 60}}, EVALUATE, "height"),
    "one held-out prompt": ({HELDOUT: {"limit": 1}}, EVALUATE, "prompts"),
    "no prompts": ({PROMPTS: {"source": "text", "source.text": "\n"}}, PROMPTS, "text"),
    "a file that is gone": ({HELDOUT: {"source": "file", "source.file": "x.txt"}}, HELDOUT, "file"),
    "weights that are missing": (
        {REWARD: {"detector": "local folder", "detector.folder": "x", "detector.color_folder": "x"}},
        REWARD, "folder",
    ),
    "prompts that the reward cannot judge": ({PROMPTS: TEXT}, SCORE, "prompts"),
    "held-out prompts that it cannot judge": ({HELDOUT: TEXT}, EVALUATE, "prompts"),
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded():
    return workflow.load(QUICKSTART)


@pytest.fixture
def graph(loaded):
    return copy.deepcopy(loaded)


def change(graph, changes):
    for node_id, values in changes.items():
        graph[node_id].inputs.update(values)
        for name in [name for name, value in values.items() if value is None]:
            del graph[node_id].inputs[name]


def refusal(graph, host):
    with pytest.raises(InputError) as refused:
        workflow.run(graph, host)
    assert host.reports == [], "work was done before"
    assert host.events == []
    assert not list(host.output_dir.rglob("*.png"))
    return refused.value


@pytest.mark.parametrize("name", LATE)
def test_it_is_refused_before_any_picture(name, graph, tmp_path):
    changes, node_id, input_name = LATE[name]
    change(graph, changes)
    error = refusal(graph, RecordingHost(tmp_path))
    assert error.input_name.startswith(f"{graph[node_id].label}, {input_name}")
    assert error.found
    assert error.remedy


def test_numbers_for_one_rollout_are_refused_for_rounds_and_evaluation(graph, tmp_path):
    graph["20"] = Node("20", "GDRO_RatingReward", "My stars", {"rollout": Link(ROLLOUT, 0)})
    graph[TRAIN].inputs["reward"] = Link("20", 0)
    error = refusal(graph, RecordingHost(tmp_path))
    assert error.input_name == f"{graph[TRAIN].label}, reward"
    graph[TRAIN].inputs["algorithm.rounds"] = 1
    graph[EVALUATE].inputs["reward"] = Link("20", 0)
    error = refusal(graph, RecordingHost(tmp_path))
    assert error.input_name == f"{graph[EVALUATE].label}, reward"


def test_a_rollout_is_not_compared_with_itself(graph, tmp_path):
    both = {"base": Link(SCORE, 0), "aligned": Link(ROLLOUT, 0)}
    graph["20"] = Node("20", "GDRO_CompareRollouts", "Compare", both)
    error = refusal(graph, RecordingHost(tmp_path))
    assert error.input_name == "Compare (node 20), aligned"


ON_ENGINE = [
    path
    for path in sorted(QUICKSTART.parent.glob("*.json"))
    for text in [path.read_text(encoding="utf-8")]
    if "GDRO_LoadBaseModel" in text and "KSampler" not in text
]
"""The others load models or sample with ComfyUI's nodes, which do not run here."""


@pytest.mark.parametrize("path", ON_ENGINE, ids=lambda p: p.stem)
def test_no_shipped_workflow_is_refused_for_its_settings(path, tmp_path):
    """Only files that this machine does not have are missing."""
    from gdro_comfy.stages import before_work

    stages = workflow.all_stages()
    graph = workflow.load(path)
    order = workflow.check(graph)
    steps = workflow.planned_steps(graph, order, stages)
    host, refused = RecordingHost(tmp_path), []
    for node_id in order:
        try:
            before_work.check(steps, node_id, host)
        except InputError as error:
            refused.append(error)
    assert [str(e) for e in refused if "Put" not in e.remedy and "Install" not in e.remedy] == []
