"""Rewards of installed packages in a real ComfyUI: listed, imported only to run, and scored with."""

import json

from comfyui_server import messages

NODE = "GDRO_InstalledReward"
WARMTH = "warmth (gdro-reward-warmth): How warm the colours of a picture are."


def graph(run_name, reward, settings=""):
    prompts = {"source": "text", "limit": 0, "source.text": "one red circle"}
    rollout = {"model": ["model", 0], "prompts": ["prompts", 0], "images_per_prompt": 3, "steps": 2,
               "guidance": 1.0, "width": 0, "height": 0, "seed": 0, "run_name": run_name}  # fmt: skip
    model = {"source": "bundled", "source.model": "tiny SD3", "dtype": "auto"}
    nodes = {
        "model": ("GDRO_LoadBaseModel", model),
        "prompts": ("GDRO_PromptSet", prompts),
        "rollout": ("GDRO_GroupRollout", rollout),
        "reward": (NODE, {"reward": reward, "settings": settings}),
        "score": ("GDRO_ScoreRollout", {"rollout": ["rollout", 0], "reward": ["reward", 0]}),
    }
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


def test_an_installed_reward_is_listed_and_scores(server):
    listed = server.get(f"/object_info/{NODE}")[NODE]["input"]["required"]["reward"]
    assert WARMTH in json.dumps(listed)
    assert "mine (broken-rewards)" in json.dumps(listed)
    entry = server.run(graph("warmth", WARMTH, "strength = 2"))
    text = entry["outputs"]["reward"]["text"][0]
    assert text.startswith("warmth of the package gdro-reward-warmth 1.0.0: How warm the colours")
    assert "settings: strength = 2, wanted = 'warm'" in text
    [folder] = (server.base / "output" / "gdro").glob("warmth-*")
    [path] = (folder / "scores").glob("warmth-*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 3
    assert all(0 < row["value"] < 1 for row in rows)


def test_broken_and_missing_packages_are_named_on_the_node(server):
    for reward, message in (
        ("mine (broken-rewards)", "mine of the package broken-rewards 1.0.0 cannot be imported"),
        ("gone (elsewhere)", "'gone (elsewhere)' is not among the installed rewards"),
    ):
        entry = server.wait(server.queue(graph("broken", reward)))
        [error] = messages(entry, "execution_error")
        assert error["node_id"] == "reward"
        assert message in error["exception_message"]
