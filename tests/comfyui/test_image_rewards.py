"""Similarity to references, image quality, floors and the check of a reward in a real ComfyUI."""

import json


def graph(run_name):
    """Score a rollout by the likeness to its own pictures, tinted, with a floor under their quality."""
    rollout = {"steps": 2, "guidance": 1.0, "width": 0, "height": 0, "seed": 0}
    nodes = {
        "model": ("LoadBaseModel", {"source": "bundled", "source.model": "tiny SD3",
                                    "dtype": "auto"}),
        "prompts": ("PromptSet", {"source": "text", "limit": 0,
                                  "source.text": "one red circle\ntwo blue squares"}),
        "rollout": ("GroupRollout", {"model": ["model", 0], "prompts": ["prompts", 0],
                                     "images_per_prompt": 3, "run_name": run_name, **rollout}),
        "images": ("RolloutImages", {"rollout": ["rollout", 0]}),
        "alike": ("SimilarityReward", {"references": ["blend", 0], "compare": "palette",
                                       "goal": "like these", "goal.several": "nearest"}),
        "quality": ("ImageQualityReward", {"measure": "all"}),
        "both": ("CombineRewards", {"rewards.reward0": ["alike", 0], "rewards.reward1": ["quality", 0],
                                    "rule": "pareto", "floors": "quality 0.2",
                                    "rollout": ["rollout", 0]}),
        "score": ("ScoreRollout", {"rollout": ["rollout", 0], "reward": ["both", 0]}),
        "check": ("RewardCheck", {"rollout": ["rollout", 0], "reward": ["alike", 0],
                                  "other": ["quality", 0]}),
    }  # fmt: skip
    stock = {
        "tint": ("EmptyImage", {"width": 64, "height": 64, "batch_size": 1, "color": 0xE8B888}),
        "blend": ("ImageBlend", {"image1": ["images", 0], "image2": ["tint", 0],
                                 "blend_factor": 0.5, "blend_mode": "normal"}),
        "show": ("PreviewAny", {"source": ["alike", 1]}),
    }  # fmt: skip
    return {
        **{key: {"class_type": f"GDRO_{kind}", "inputs": i} for key, (kind, i) in nodes.items()},
        **{key: {"class_type": kind, "inputs": i} for key, (kind, i) in stock.items()},
    }


def test_a_list_of_references_a_floor_and_a_check(server):
    entry = server.run(graph("alike"))
    assert entry["outputs"]["show"]["text"][0].startswith("6 references, alike among themselves by")
    [folder] = (server.base / "output" / "gdro").glob("alike-*")
    [path] = (folder / "scores").glob("similarity-*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 6
    assert all(0 < row["value"] < 1 for row in rows)
    [path] = (folder / "scores").glob("combined-*.jsonl")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert {*rows[0]["details"]} == {"similarity", "quality"}
    assert all(row["value"] >= 0.5 for row in rows), "every picture reaches the floor"
    text = entry["outputs"]["check"]["text"][0]
    assert text.startswith("similarity, 6 pictures in 2 groups")
    assert "brightness: " in text
