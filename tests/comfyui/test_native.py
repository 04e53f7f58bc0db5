"""The shipped workflow that samples with ComfyUI's own nodes, with a LoRA and without."""

import io
import json
import urllib.parse

import numpy as np
import pytest
from comfyui_server import PACK, change, messages, node_id, to_api
from PIL import Image


@pytest.fixture
def graph():
    """The workflow for one picture, with the noise levels that GDRO Generate uses."""
    path = PACK / "workflows" / "use_aligned_lora.json"
    found = to_api(json.loads(path.read_text(encoding="utf-8")))
    change(found, "EmptySD3LatentImage", {"batch_size": 1})
    change(found, "KSampler", {"scheduler": "normal"})
    return found


def pictures(server, entry, node):
    query = [urllib.parse.urlencode(image) for image in entry["outputs"][node]["images"]]
    shown = [Image.open(io.BytesIO(server.fetch(f"/view?{one}"))) for one in query]
    return np.stack([np.asarray(one.convert("RGB"), dtype=float) for one in shown])


def test_the_samplers_picture_is_that_of_our_model_and_the_lora_changes_it(server, graph):
    without, with_it = [key for key, node in graph.items() if node["class_type"] == "PreviewImage"]
    prompt = graph[node_id(graph, "CLIPTextEncode")]["inputs"]["text"]
    generate = {
        "model": [node_id(graph, "GDRO_LoadBaseModel"), 0], "prompt": prompt, "images": 1, "seed": 1,
        "steps": 8, "guidance": 1.0, "width": 64, "height": 64, "strength": 1.0,
    }  # fmt: skip
    graph["ours"] = {"class_type": "GDRO_Generate", "inputs": generate}
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["ours", 0]}}
    entry = server.run(graph)
    ours, base, aligned = (pictures(server, entry, node) for node in ("show", without, with_it))
    assert np.abs(ours - base).max() <= 2
    assert np.abs(aligned - base).max() > 50


def test_a_picture_goes_through_the_autoencoder_and_back(server, graph):
    native, shown = node_id(graph, "GDRO_ModelForComfyUI"), node_id(graph, "PreviewImage")
    decoded = graph[shown]["inputs"]["images"]
    graph["in"] = {"class_type": "VAEEncode", "inputs": {"pixels": decoded, "vae": [native, 2]}}
    graph["out"] = {"class_type": "VAEDecode", "inputs": {"samples": ["in", 0], "vae": [native, 2]}}
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["out", 0]}}
    entry = server.run(graph)
    before, after = pictures(server, entry, shown), pictures(server, entry, "show")
    assert np.abs(before - after).mean() < 12


def test_a_prompt_that_the_model_cannot_read_is_refused_on_its_node(server, graph):
    change(graph, "CLIPTextEncode", {"text": "(猫:1.2)"})
    entry = server.wait(server.queue(graph))
    [error] = messages(entry, "execution_error")
    assert error["node_type"] == "CLIPTextEncode"
    assert "this model cannot read" in error["exception_message"]


def test_without_a_choice_the_node_asks_for_a_lora(server, graph):
    change(graph, "GDRO_LoadAlignedLoRA", {"lora_name": "choose a file"})
    entry = server.wait(server.queue(graph))
    [error] = messages(entry, "execution_error")
    assert "lora_name: no file is chosen" in error["exception_message"]
