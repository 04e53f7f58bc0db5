"""The shipped workflow that samples with ComfyUI's own nodes, with and without a LoRA."""

import io
import json
import urllib.parse

import numpy as np
import pytest
from comfyui_server import PACK, change, messages, node_id, to_api
from PIL import Image


@pytest.fixture
def graph():
    """The workflow for one image, with the noise levels of GDRO Generate."""
    path = PACK / "workflows" / "use_aligned_lora.json"
    graph = to_api(json.loads(path.read_text(encoding="utf-8")))
    change(graph, "EmptySD3LatentImage", {"batch_size": 1})
    change(graph, "KSampler", {"scheduler": "normal"})
    return graph


def images_of(server, entry, node):
    queries = [urllib.parse.urlencode(image) for image in entry["outputs"][node]["images"]]
    images = [Image.open(io.BytesIO(server.fetch(f"/view?{query}"))) for query in queries]
    return np.stack([np.asarray(image.convert("RGB"), dtype=float) for image in images])


def test_comfyuis_sampler_gives_our_image_and_the_lora_changes_it(server, graph):
    without, with_it = [key for key, node in graph.items() if node["class_type"] == "PreviewImage"]
    prompt = graph[node_id(graph, "CLIPTextEncode")]["inputs"]["text"]
    generate = {
        "model": [node_id(graph, "GDRO_LoadBaseModel"), 0], "prompt": prompt, "images": 1, "seed": 1,
        "steps": 8, "guidance": 1.0, "width": 64, "height": 64, "strength": 1.0,
    }  # fmt: skip
    graph["ours"] = {"class_type": "GDRO_Generate", "inputs": generate}
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["ours", 0]}}
    entry = server.run(graph)
    ours, base, aligned = (images_of(server, entry, node) for node in ("show", without, with_it))
    assert np.abs(ours - base).max() <= 2
    assert np.abs(aligned - base).max() > 50


def test_an_image_is_encoded_and_decoded_again(server, graph):
    native, preview = node_id(graph, "GDRO_ModelForComfyUI"), node_id(graph, "PreviewImage")
    decoded = graph[preview]["inputs"]["images"]
    graph["in"] = {"class_type": "VAEEncode", "inputs": {"pixels": decoded, "vae": [native, 2]}}
    graph["out"] = {"class_type": "VAEDecode", "inputs": {"samples": ["in", 0], "vae": [native, 2]}}
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["out", 0]}}
    entry = server.run(graph)
    before, after = images_of(server, entry, preview), images_of(server, entry, "show")
    assert np.abs(before - after).mean() < 12


def test_an_unreadable_prompt_is_refused_on_its_node(server, graph):
    change(graph, "CLIPTextEncode", {"text": "猫"})
    entry = server.wait(server.queue(graph))
    [error] = messages(entry, "execution_error")
    assert error["node_type"] == "CLIPTextEncode"
    assert "this model cannot read" in error["exception_message"]


def test_a_missing_choice_of_a_lora_is_reported(server, graph):
    change(graph, "GDRO_LoadAlignedLoRA", {"lora_name": "choose a file"})
    entry = server.wait(server.queue(graph))
    [error] = messages(entry, "execution_error")
    assert "lora_name: no file is chosen" in error["exception_message"]
