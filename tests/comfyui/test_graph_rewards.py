"""Scores computed by other nodes in a real ComfyUI: images out as a list, and scores back."""

import json

from comfyui_server import messages


def graph(run_name):
    """Measure images, transform the values in ComfyUI's Math Expression, and combine two rewards."""
    rollout = {"steps": 2, "guidance": 1.0, "width": 0, "height": 0, "seed": 0}
    nodes = {
        "model": ("LoadBaseModel", {"source": "bundled", "source.model": "tiny SD3",
                                    "dtype": "auto"}),
        "prompts": ("PromptSet", {"source": "text", "limit": 0,
                                  "source.text": "one red circle\ntwo blue squares"}),
        "rollout": ("GroupRollout", {"model": ["model", 0], "prompts": ["prompts", 0],
                                     "images_per_prompt": 3, "run_name": run_name, **rollout}),
        "images": ("RolloutImages", {"rollout": ["rollout", 0]}),
        "measure": ("MeasureImage", {"image": ["images", 0], "measure": "brightness"}),
        "scores": ("ScoresFromGraph", {"rollout": ["rollout", 0], "scores": ["math", 0],
                                       "name": "dark"}),
        "shapes": ("CompositionReward", {"strict": True}),
        "both": ("CombineRewards", {"rewards.reward0": ["scores", 0], "rewards.reward1": ["shapes", 0],
                                    "rule": "weights", "rule.weights": "1, 0.5",
                                    "rule.normalisation": "per group", "rollout": ["rollout", 0]}),
        "score": ("ScoreRollout", {"rollout": ["rollout", 0], "reward": ["both", 0]}),
    }  # fmt: skip
    math = {"expression": "1 - a", "values.a": ["measure", 0]}
    show = {"source": ["both", 1]}
    return {
        "math": {"class_type": "ComfyMathExpression", "inputs": math},
        "show": {"class_type": "PreviewAny", "inputs": show},
        **{key: {"class_type": f"GDRO_{kind}", "inputs": i} for key, (kind, i) in nodes.items()},
    }


def scores(server, run_name, reward):
    [folder] = (server.base / "output" / "gdro").glob(f"{run_name}-*")
    [path] = (folder / "scores").glob(f"{reward}-*.jsonl")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_scores_of_other_nodes_belong_to_the_right_images(server):
    from PIL import Image

    from gdro_comfy.imaging import image_tensor
    from gdro_comfy.rewards.measure import measure

    entry = server.run(graph("graphreward"))
    text = entry["outputs"]["show"]["text"][0]
    assert "dark and composition: " in text
    assert " decides the ranking most." in text
    [folder] = (server.base / "output" / "gdro").glob("graphreward-*")
    rows = scores(server, "graphreward", "dark")
    assert len(rows) == 6
    for row in rows:
        image = Image.open(folder / "prompts" / row["prompt"] / f"{row['image']:03d}.png")
        expected = 1 - measure(image_tensor([image]).numpy(), "brightness")
        assert abs(row["value"] - expected) < 1e-5
    combined = scores(server, "graphreward", "combined")
    assert {*combined[0]["details"]} == {"dark", "composition"}


def test_a_missing_score_names_the_image(server):
    broken = graph("graphfew")
    broken["scores"]["inputs"]["scores"] = ["one", 0]
    broken["one"] = {"class_type": "PrimitiveFloat", "inputs": {"value": 0.5}}
    entry = server.wait(server.queue(broken))
    [error] = messages(entry, "execution_error")
    assert error["node_id"] == "scores"
    assert "1 came for 6 pictures" in error["exception_message"]
    assert "picture 2 of 'one red circle'" in error["exception_message"]
