"""Ratings by hand in a real ComfyUI: what needs them waits, and continues without sampling again."""

import json
import urllib.request

from comfyui_server import messages


def graph(run_name, least_groups=2):
    sampling = {"steps": 2, "guidance": 1.0, "width": 0, "height": 0, "seed": 0}
    nodes = {
        "model": ("LoadBaseModel", {"source": "bundled", "source.model": "tiny SD3",
                                    "dtype": "auto"}),
        "prompts": ("PromptSet", {"source": "text", "limit": 0,
                                  "source.text": "one red circle\ntwo blue squares\na star"}),
        "rollout": ("GroupRollout", {"model": ["model", 0], "prompts": ["prompts", 0],
                                     "images_per_prompt": 3, "run_name": run_name, **sampling}),
        "rating": ("RatingReward", {"rollout": ["rollout", 0], "kind": "stars",
                                    "least_groups": least_groups}),
        "score": ("ScoreRollout", {"rollout": ["rollout", 0], "reward": ["rating", 0]}),
    }  # fmt: skip
    return {key: {"class_type": f"GDRO_{kind}", "inputs": i} for key, (kind, i) in nodes.items()}


def run_folder(server, run_name):
    [folder] = (server.base / "output" / "gdro").glob(f"{run_name}-*")
    return folder


def image_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}


def rate(server, folder, group, stars):
    request = urllib.request.Request(
        f"{server.url}/gdro/runs/{folder.name}/ratings",
        json.dumps({"group": group, "ratings": stars}).encode(),
        {"Content-Type": "application/json"},
        method="PUT",
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def executed(entry):
    """Return the ids of the nodes that ran, and were neither cached nor skipped."""
    cached = {node for message in messages(entry, "execution_cached") for node in message["nodes"]}
    return set(entry["outputs"]) - cached


def test_the_branch_waits_for_ratings_and_continues_without_sampling_again(server):
    entry = server.run(graph("waits"))
    assert "score" not in entry["outputs"], "the node ran without the ratings that it needs"
    assert entry["outputs"]["rating"]["text"] == [
        "0 of 3 groups rated; rate more and press Run (2 are needed)."
    ]
    folder = run_folder(server, "waits")
    assert entry["outputs"]["rating"]["gdro"] == [{"run": folder.name}], "the gallery has no run"
    sampled = image_times(folder)
    assert len(sampled) == 9

    groups = sorted(path.name for path in (folder / "prompts").iterdir())
    rate(server, folder, groups[0], [5, None, 1])
    entry = server.run(graph("waits"))
    assert entry["outputs"]["rating"]["text"][0].startswith("1 of 3 groups rated;")
    assert "score" not in entry["outputs"]

    rate(server, folder, groups[1], [2, 4, None])
    entry = server.run(graph("waits"))
    assert "rollout" not in executed(entry)
    assert "4 of 9 pictures rated; 2 of 3 groups" in entry["outputs"]["rating"]["text"][0]
    assert "4 images in 2 groups (5 without a score" in entry["outputs"]["score"]["text"][0]
    assert image_times(folder) == sampled, "images were sampled again"
    scores = list((folder / "scores").glob("rating-*.jsonl"))
    assert len(scores) == 1

    entry = server.run(graph("waits"))
    assert not executed(entry) & {"rollout", "rating", "score"}, "nothing has changed"


def test_a_waiting_branch_does_not_stop_the_rest_of_the_graph(server):
    both = graph("rest")
    both["shapes"] = {"class_type": "GDRO_CompositionReward", "inputs": {"strict": True}}
    both["other"] = {
        "class_type": "GDRO_ScoreRollout",
        "inputs": {"rollout": ["rollout", 0], "reward": ["shapes", 0]},
    }
    entry = server.run(both)
    assert "9 images in 3 groups" in entry["outputs"]["other"]["text"][0]
    assert "score" not in entry["outputs"]
    assert not messages(entry, "execution_error")
