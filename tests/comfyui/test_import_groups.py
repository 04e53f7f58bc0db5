"""Importing images in a real ComfyUI: from a folder that changes, from the graph, and with problems."""

import json
import shutil

import numpy as np
import pytest
from comfyui_server import messages
from PIL import Image

NODE = "GDRO_ImportGroups"


@pytest.fixture
def taste(server):
    folder = server.base / "input" / "taste"
    for prompt in ("one red circle", "two_blue_squares"):
        (folder / prompt).mkdir(parents=True)
        for number in (1, 2, 3):
            noise = np.random.default_rng([number, len(prompt)]).integers(0, 255, (80, 64, 3))
            Image.fromarray(noise.astype(np.uint8)).save(folder / prompt / f"{number}.png")
    yield folder
    shutil.rmtree(folder)


def graph(run_name, source, settings):
    inputs = {
        "model": ["model", 0],
        "source": source,
        **{f"source.{name}": value for name, value in settings.items()},
        "images_per_prompt": 0,
        "width": 0,
        "height": 0,
        "steps": 2,
        "guidance": 1.0,
        "run_name": run_name,
    }
    score = {"rollout": ["import", 0], "reward": ["import", 1]}
    model = {"source": "bundled", "source.model": "tiny SD3", "dtype": "auto"}
    return {
        "model": {"class_type": "GDRO_LoadBaseModel", "inputs": model},
        "import": {"class_type": NODE, "inputs": inputs},
        "score": {"class_type": "GDRO_ScoreRollout", "inputs": score},
        "show": {"class_type": "PreviewAny", "inputs": {"source": ["import", 3]}},
    }


def from_folder(run_name):
    return graph(run_name, "folder", {"folder": "taste", "prompt_from": "folder names"})


def runs(server, run_name):
    return sorted((server.base / "output" / "gdro").glob(f"{run_name}-*"))


def executed(entry):
    """Return the ids of the nodes that ran and were not cached."""
    [cached] = messages(entry, "execution_cached")
    return {"model", "import", "score", "show"} - set(cached["nodes"])


def test_a_folder_becomes_a_scored_rollout_and_is_imported_again_after_changes(server, taste):
    listed = server.get(f"/object_info/{NODE}")[NODE]["input"]["required"]["source"][1]["options"]
    [folder] = [option for option in listed if option["key"] == "folder"]
    assert "taste" in json.dumps(folder)
    entry = server.run(from_folder("folder"))
    assert entry["outputs"]["import"]["gdro"][0]["run"] == runs(server, "folder")[0].name
    assert "6 pictures in 2 groups of 3" in entry["outputs"]["show"]["text"][0]
    [scores] = (runs(server, "folder")[0] / "scores").glob("order-*.jsonl")
    rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    assert [row["value"] for row in rows] == [1, 0.5, 0] * 2
    assert "import" not in executed(server.run(from_folder("folder")))
    last = taste / "one red circle" / "3.png"
    last.rename(last.with_name("0.png"))  # makes it the best
    assert "import" in executed(server.run(from_folder("folder")))
    assert len(runs(server, "folder")) == 2


def test_lists_of_batches_become_groups(server):
    prompts = {"source": "text", "limit": 0, "source.text": "one red circle\ntwo blue squares"}
    rollout = {"model": ["model", 0], "prompts": ["prompts", 0], "images_per_prompt": 3, "steps": 2,
               "guidance": 1.0, "width": 0, "height": 0, "seed": 0, "run_name": "sampled"}  # fmt: skip
    images = {"images": ["images", 0], "prompt": ["images", 1]}
    batches = graph("batches", "images of the graph", images)
    batches.update(
        prompts={"class_type": "GDRO_PromptSet", "inputs": prompts},
        rollout={"class_type": "GDRO_GroupRollout", "inputs": rollout},
        images={"class_type": "GDRO_RolloutImages", "inputs": {"rollout": ["rollout", 0]}},
    )
    batches["score"]["inputs"]["reward"] = ["shapes", 0]
    batches["shapes"] = {"class_type": "GDRO_CompositionReward", "inputs": {"strict": True}}
    entry = server.run(batches)
    assert "6 pictures in 2 groups of 3" in entry["outputs"]["show"]["text"][0]
    [sampled], [imported] = runs(server, "sampled"), runs(server, "batches")
    for path in sampled.glob("prompts/*/*.png"):
        with Image.open(path) as one, Image.open(imported / path.relative_to(sampled)) as other:
            assert one.tobytes() == other.tobytes()


def test_problems_are_reported_on_the_node(server, taste):
    (taste / "one red circle" / "2.png").write_bytes(b"no picture")
    Image.new("RGB", (1, 1)).save(taste / "two_blue_squares" / "3.png")
    entry = server.wait(server.queue(from_folder("wrong")))
    [error] = messages(entry, "execution_error")
    assert error["node_id"] == "import"
    assert (
        "- one red circle/2.png: it is damaged, or not a picture of a supported format"
        in error["exception_message"]
    )
    assert "- two_blue_squares/3.png: 1 x 1 pixels would be enlarged" in error["exception_message"]
    assert not runs(server, "wrong")
