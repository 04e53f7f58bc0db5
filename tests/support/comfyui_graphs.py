"""The shipped quickstart as tests queue it, and its results."""

from __future__ import annotations

import json
from pathlib import Path

from comfyui_server import PACK, SMALL, change, messages, node_id, to_api

ROLLOUT, TRAIN = "GDRO_GroupRollout", "GDRO_TrainLoRA"


def quickstart(run_name, **changes):
    """Return the quickstart with small numbers; ``changes`` are by node type without ``GDRO_``."""
    workflow = json.loads((PACK / "workflows" / "quickstart.json").read_text(encoding="utf-8"))
    graph = to_api(workflow)
    for class_type, inputs in SMALL.items():
        change(graph, class_type, inputs)
    change(graph, ROLLOUT, {"run_name": run_name})
    heldout = graph[graph[node_id(graph, "GDRO_EvaluateAlignment")]["inputs"]["prompts"][0]]
    heldout["inputs"]["limit"] = 4
    for name, inputs in changes.items():
        change(graph, f"GDRO_{name}", inputs)
    return graph


def groups_only(graph):
    """Return the graph without the nodes after the rollout."""
    kept = ("GDRO_LoadBaseModel", "GDRO_PromptSet", ROLLOUT)
    return {key: node for key, node in graph.items() if node["class_type"] in kept}


def run_folder(server, run_name) -> Path:
    """Return the folder of the only run with this name."""
    [folder] = (server.base / "output" / "gdro").glob(f"{run_name}-*")
    return folder


def stamps(*folders):
    """Return when each file below these folders was written."""
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path: path.stat().st_mtime_ns for path in files}


def error_of(server, graph) -> tuple[str, str]:
    """Run a graph that fails; return its only error message, and the type of the failing node."""
    status, answer = server.post("/prompt", {"prompt": graph})
    if answer["node_errors"]:
        [node] = answer["node_errors"].values()
        [error] = node["errors"]
        return f"{error['message']}: {error['details']}", node["class_type"]
    assert status == 200, answer
    entry = server.wait(answer["prompt_id"])
    [error] = messages(entry, "execution_error")
    return error["exception_message"], error["node_type"]
