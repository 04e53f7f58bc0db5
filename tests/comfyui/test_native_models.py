"""A model from ComfyUI's wires: sampled, trained and exported on tiny networks of ComfyUI's families."""

import json

import pytest
from comfyui_graphs import TRAIN, quickstart
from comfyui_scripts import load_families, run_in_comfyui
from comfyui_server import node_id
from safetensors.torch import load_file

FAMILIES = sorted(load_families().IMAGES)


def run(comfy_python, *names):
    return run_in_comfyui(comfy_python, "native_networks.py", *names)


@pytest.fixture(scope="module")
def measured(comfy_python):
    return {row["family"]: row for row in run(comfy_python, *FAMILIES)}


@pytest.fixture(params=FAMILIES)
def row(request, measured):
    return measured[request.param]


def test_a_rollout_is_what_ksampler_draws(row):
    assert row["scale"] > 0.1
    assert row["sampling"] < 1e-4


def test_the_velocity_is_that_of_comfyuis_denoised_estimate(row):
    assert row["one_step"] < 1e-4
    assert row["guided_step"] < 2e-4


def test_gradients_agree_with_finite_differences(row):
    assert row["slope_error"] < 0.02
    assert row["recompute_error"] < 1e-5
    assert row["not_applied"] == []


def test_a_new_adapter_changes_nothing(row):
    assert row["fresh_adapter_changes_nothing"] is True


def test_the_stock_loader_applies_the_exported_lora_as_training_did(row):
    assert row["patches"] == row["modules"] > 0
    assert row["lora_effect"] > 0.01
    assert row["lora"] < 1e-3


def test_the_wire_is_left_as_it_was(row):
    assert row["unchanged"] is True
    assert row["in_training"] is False
    assert row["after"] < 1e-6


def test_the_width_of_the_text_is_known_so_that_another_clip_is_refused(row):
    # Those of Krea2 and Lens take several layers of an encoder as one token, HiDream two encoders.
    assert row["text_width"] == (None if row["family"] in ("HiDream", "Krea2", "Lens") else 48)


def test_the_memory_of_a_step_is_counted_beforehand(row):
    # HiDream sends each token to experts by its values; Anima computes in a mode that shapes alone lack.
    assert (row["counted"] > 0) == (row["family"] not in ("Anima", "HiDream"))


def test_the_same_weights_are_the_same_model_in_another_object(row):
    assert row["same_identity"] is True


def test_other_patches_are_another_model(comfy_python):
    (row,) = run(comfy_python, "identities")
    assert row == {"different": True, "same again": True}


def test_wires_that_cannot_be_aligned_are_refused_by_name(comfy_python):
    (row,) = run(comfy_python, "refusals")
    assert row["none"] == row["used negative"] == ""
    assert row["sampler"].startswith("sampler: 'eulr' is unknown")
    assert row["negative"].startswith("negative_prompt: guidance 1 does not use one")
    assert row["sdxl"].startswith("model: this is a SDXL model, which predicts no rectified flow")
    assert "put patches onto the MODEL" in row["attention patch"]
    assert "changes layers while they run" in row["bypass"]
    assert "wraps the MODEL's function" in row["function wrapper"]
    assert row["vae"].startswith("vae: its latents have 4 channels, and the MODEL's 16")
    assert row["clip"].startswith("clip: it encodes text into 49 numbers a token")


def test_the_bundled_model_has_the_same_velocities_on_both_roads(comfy_python):
    (row,) = run(comfy_python, "bundled")
    assert row["scale"] > 0.1
    assert row["difference"] < 1e-4
    assert (row["size"], row["downscale"]) == ([64, 64], 8)


def wired(graph):
    """The quickstart with ComfyUI's MODEL, CLIP and VAE between the loader and GDRO's nodes."""
    graph = json.loads(json.dumps(graph))
    (loader,) = [k for k, node in graph.items() if node["class_type"] == "GDRO_LoadBaseModel"]
    for node in graph.values():
        for name, value in node["inputs"].items():
            if value == [loader, 0]:
                node["inputs"][name] = ["wires", 0]
    graph["comfy"] = {"class_type": "GDRO_ModelForComfyUI", "inputs": {"model": [loader, 0]}}
    wires = {name: ["comfy", slot] for slot, name in enumerate(("model", "clip", "vae"))}
    graph["wires"] = {"class_type": "GDRO_ModelFromWires", "inputs": wires}
    return graph


def test_the_quickstart_runs_on_wires_and_goes_on_from_disk(server):
    graph = wired(quickstart("wired"))
    train = node_id(graph, TRAIN)
    sheet = {"images": [node_id(graph, "GDRO_EvaluateAlignment"), 0]}
    graph["show"] = {"class_type": "PreviewImage", "inputs": sheet}
    server.run(graph)
    [path] = (server.base / "models" / "loras" / "gdro").glob("wired_*.safetensors")
    tensors = load_file(path)
    assert all(key.startswith("diffusion_model.") for key in tensors)
    assert any(float(value.abs().max()) > 0 for key, value in tensors.items() if "lora_B" in key)
    [record] = (server.base / "output" / "gdro").glob("wired-*/run.json")
    settings = json.loads(record.read_text())
    assert settings["model"]["pipeline"] == "SD3"
    assert settings["sampler"] == {"name": "euler", "scheduler": "simple", "negative_prompt": ""}
    before = {p: p.stat().st_mtime_ns for p in record.parent.rglob("*.safetensors")}
    server.forget()
    server.run(graph)
    assert {p: p.stat().st_mtime_ns for p in record.parent.rglob("*.safetensors")} == before
    assert graph[train]["class_type"] == TRAIN
