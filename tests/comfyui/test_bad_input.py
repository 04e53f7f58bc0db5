"""Bad input in a real ComfyUI: one message, on the right node, that says what is allowed."""

import copy
import json

import pytest
from comfyui_graphs import ROLLOUT, TRAIN, error_of, groups_only, quickstart
from comfyui_server import change, node_id


def _in_folder(server, name, index):
    """Write a diffusers folder with this model index, and return the inputs that choose it."""
    folder = server.base / "models" / "diffusers" / name
    folder.mkdir(exist_ok=True)
    (folder / "model_index.json").write_text(json.dumps(index))
    return {"source": "diffusers folder", "source.folder": name}


BAD = {
    "group_size": (TRAIN, {"algorithm.group_size": 6}, "2 to 4"),
    "width": (ROLLOUT, {"width": 60}, "48 or 64"),
    "text": ("GDRO_PromptSet", {"source": "text", "source.text": "\n  \n"}, "prompt"),
    "run_name": (ROLLOUT, {"run_name": "../outside"}, "letters"),
    "file": ("GDRO_PromptSet", {"source": "file", "source.file": "gone.txt"}, "gone.txt"),
    "algorithm": (TRAIN, {"algorithm": "nonsense"}, "gdro"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_reported_once_with_what_is_allowed(server, name):
    class_type, inputs, allowed = BAD[name]
    graph = copy.deepcopy(quickstart("bad"))
    graph[node_id(graph, class_type)]["inputs"].update(inputs)
    message, node_type = error_of(server, graph)
    assert node_type == class_type
    assert name in message
    assert allowed in message


def test_a_folder_without_a_usable_model_is_named(server):
    graph = quickstart("bad")
    missing = {"source": "diffusers folder", "source.folder": "nowhere"}
    change(graph, "GDRO_LoadBaseModel", missing)
    message, _ = error_of(server, graph)
    assert "folder" in message
    assert "nowhere" in message
    flux = _in_folder(server, "flux", {"_class_name": "FluxPipeline"})
    change(graph, "GDRO_LoadBaseModel", flux)
    message, _ = error_of(server, graph)
    assert "folder" in message
    assert "FluxPipeline" in message


def test_after_an_error_the_next_run_works(server):
    graph = groups_only(quickstart("after error"))
    change(graph, ROLLOUT, {"width": 60})
    error_of(server, graph)
    change(graph, ROLLOUT, {"width": 64})
    server.run(graph)


def test_what_a_reward_lacks_is_said_when_the_graph_is_queued(server):
    """On the reward's node and before anything has run; ComfyUI goes on with what does not need it."""
    graph = quickstart("late")
    reward = node_id(graph, "GDRO_CompositionReward")
    graph[reward] = {"class_type": "GDRO_OCRReward", "inputs": {"mode": "aloud"}}

    def queue():
        _, answer = server.post("/prompt", {"prompt": graph})
        if "prompt_id" in answer:
            server.post("/interrupt", {"prompt_id": answer["prompt_id"]})
            server.wait(answer["prompt_id"])
        return answer["node_errors"]

    [error] = queue()[reward]["errors"]
    assert "'aloud' does not fit. It must be one of: auto, line, detect." in error["details"]
    graph[reward]["inputs"]["mode"] = "auto"
    # The quickstart's prompts ask for no text: that is said where they would be judged.
    judging = {node_id(graph, f"GDRO_{name}") for name in ("ScoreRollout", "EvaluateAlignment")}
    assert queue().keys() == judging


LINKED = {
    "group_size": (TRAIN, {"algorithm.group_size": 6}, TRAIN),
    "reward": (TRAIN, {"reward": None}, TRAIN),
    "rounds": (TRAIN, {"algorithm.rounds": 9}, TRAIN),
    "width": ("GDRO_EvaluateAlignment", {"width": 60}, "GDRO_EvaluateAlignment"),
    "prompts": ("GDRO_PromptSet", {"limit": 1}, "GDRO_EvaluateAlignment"),
}


@pytest.mark.parametrize("name", LINKED)
def test_what_linked_nodes_do_not_allow_is_said_when_the_graph_is_queued(server, name):
    """Nothing is drawn for a node that will refuse; without the rollout's own output, nothing runs at all."""
    changed, inputs, refusing = LINKED[name]
    graph = quickstart(f"linked {name}")
    change(graph, changed, {key: value for key, value in inputs.items() if value is not None})
    for key in [key for key, value in inputs.items() if value is None]:
        del graph[node_id(graph, changed)]["inputs"][key]
    last = node_id(graph, refusing)
    status, answer = server.post("/prompt", {"prompt": graph, "partial_execution_targets": [last]})
    assert status == 400
    assert answer["node_errors"].keys() == {last}
    [error] = answer["node_errors"][last]["errors"]
    assert f"{name}: " in error["details"]
    assert not list((server.base / "output" / "gdro").glob(f"linked {name}*"))
