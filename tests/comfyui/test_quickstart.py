"""The quickstart in a real ComfyUI: schemas, loading, results, and the LoRA in ComfyUI's own nodes."""

import copy
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from comfyui_graphs import TRAIN, error_of, quickstart, stamps
from comfyui_server import CHECKOUT, PACK, messages, node_id
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from gdro_comfy.models import loading
from gdro_comfy.stages import STAGES

LIBRARIES = {"accelerate", "diffusers", "onnxruntime", "peft", "rapidocr", "transformers"}


@pytest.fixture(scope="module")
def transformer(server) -> Path:
    """The bundled transformer in ComfyUI's folder of diffusion models."""
    [file] = (loading.bundled_folder("tiny SD3") / "transformer").glob("*.safetensors")
    target = server.base / "models" / "diffusion_models" / "tiny_sd3.safetensors"
    shutil.copyfile(file, target)
    return target


@pytest.fixture(scope="module")
def finished(server, transformer):
    """The quickstart with ComfyUI's own LoRA nodes after it, and its history entry."""
    graph = quickstart("finished")
    train = node_id(graph, TRAIN)
    more = {
        "saver": ("SaveLoRA", {"lora": [train, 1], "prefix": "stock/lora"}),
        "unet": ("UNETLoader", {"unet_name": transformer.name, "weight_dtype": "default"}),
        "stock": (
            "LoraModelLoader",
            {"model": ["unet", 0], "lora": [train, 1], "strength_model": 1.0, "bypass": False},
        ),
        "ours": (
            "GDRO_LoadAlignedLoRA",
            {"model": ["unet", 0], "aligned": [train, 0], "lora_name": "gone", "strength": 1.0},
        ),
        "save_base": ("ModelSave", {"model": ["unet", 0], "filename_prefix": "stock/base"}),
        "save_stock": ("ModelSave", {"model": ["stock", 0], "filename_prefix": "stock/stock"}),
        "save_ours": ("ModelSave", {"model": ["ours", 0], "filename_prefix": "stock/ours"}),
        "generate": (
            "GDRO_Generate",
            {
                "model": [node_id(graph, "GDRO_LoadBaseModel"), 0],
                "aligned": [train, 0],
                "prompt": "one red circle",
                "images": 2,
                "steps": 2,
                "guidance": 2.0,
                "width": 0,
                "height": 0,
                "seed": 1,
                "strength": 0.5,
            },
        ),
        "preview": ("PreviewImage", {"images": ["generate", 0]}),
    }
    for key, (class_type, inputs) in more.items():
        graph[key] = {"class_type": class_type, "inputs": inputs}
    return graph, server.run(graph)


@pytest.fixture(scope="module")
def lora_file(finished, server) -> Path:
    graph, entry = finished
    return Path(entry["outputs"][node_id(graph, TRAIN)]["text"][0])


@pytest.mark.parametrize("class_type", STAGES)
def test_every_input_and_output_has_a_tooltip(server, class_type):
    info = server.get(f"/object_info/{class_type}")[class_type]
    assert info["display_name"] == STAGES[class_type].display_name
    assert info["description"]
    assert all(info["output_tooltips"])
    assert len(info["output_tooltips"]) == len(STAGES[class_type].outputs)
    undocumented, names = [], []

    def visit(inputs, prefix=""):
        for name, (_, options) in {**inputs["required"], **inputs.get("optional", {})}.items():
            names.append(prefix + name)
            if not options.get("tooltip"):
                undocumented.append(prefix + name)
            for option in options.get("options", []):
                if isinstance(option, dict):
                    visit({"required": {}, **option["inputs"]}, f"{prefix}{name}.")

    visit(info["input"])
    assert not undocumented
    assert set(names) >= {declared.name for declared in STAGES[class_type].inputs}


@pytest.fixture(scope="module")
def loaded(comfy_python, comfy_base):
    """The report of a fresh ComfyUI process that has loaded the pack."""
    script = PACK / "tests" / "comfyui" / "loading.py"
    done = subprocess.run(
        [comfy_python, script, PACK, comfy_base], cwd=CHECKOUT, capture_output=True, text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_loading_the_pack_is_fast_and_imports_no_libraries(loaded):
    assert loaded["loaded"]
    assert not {name.split(".")[0] for name in loaded["modules"]} & LIBRARIES
    assert loaded["seconds"] < 1


def test_a_missing_library_is_named_with_how_to_install_it(loaded):
    assert "diffusers" in loaded["without_diffusers"]
    assert "-m pip install -r" in loaded["without_diffusers"]


def test_the_quickstart_shows_images_and_figures(server, finished):
    graph, entry = finished
    [image] = entry["outputs"][node_id(graph, "LossGraphNode")]["images"]
    picture = server.fetch(f"/view?filename={image['filename']}&type={image['type']}")
    assert picture.startswith(b"\x89PNG")
    [scored] = entry["outputs"][node_id(graph, "GDRO_ScoreRollout")]["gdro"]
    groups = f"/gdro/runs/{scored['run']}/groups"
    page = server.get(f"{groups}?scores={scored['scores']}")
    assert (page["total"], len(page["groups"][0]["images"])) == (6, 4)
    assert server.fetch(f"{groups}/{page['groups'][0]['group']}/images/3").startswith(b"\x89PNG")
    [shown] = entry["outputs"][node_id(graph, "GDRO_EvaluateAlignment")]["gdro"]
    training = f"/gdro/runs/{shown['run']}/trainings/{shown['training']}"
    assert [row["step"] for row in server.get(training)["rows"]] == [1, 2, 3, 4, 5, 6]
    evaluation = f"{training}/evaluations/{shown['evaluation']}"
    assert len(server.get(evaluation)["pairs"]) == 4
    for picture in ("comparison", "pairs/3/0", "pairs/3/1"):
        assert len(server.fetch(f"{evaluation}/{picture}")) > 2000
    assert b"<html" in server.fetch(f"{evaluation}/report").lower()
    [scores] = entry["outputs"][node_id(graph, "GDRO_ScoreRollout")]["text"]
    assert "24 images in 6 groups" in scores
    [table] = entry["outputs"][node_id(graph, "GDRO_EvaluateAlignment")]["text"]
    assert "4 prompts x 1 images" in table
    assert "95 % interval" in table
    assert len(entry["outputs"]["preview"]["images"]) == 2


def test_the_lora_fits_the_transformer(server, lora_file, transformer):
    assert lora_file.parent == server.base / "models" / "loras" / "gdro"
    listed = server.get("/object_info/LoraLoader")["LoraLoader"]["input"]["required"]["lora_name"]
    names = listed[0] if isinstance(listed[0], list) else listed[1]["options"]
    assert str(Path("gdro", lora_file.name)) in names
    lora = load_file(lora_file)
    modules = {key.split(".lora_A")[0] for key in lora if ".lora_A" in key}
    with safe_open(transformer, "pt") as weights:
        for module in modules:
            out, into = weights.get_slice(
                f"{module.removeprefix('transformer.')}.weight"
            ).get_shape()
            rank = lora[f"{module}.lora_A.weight"].shape[0]
            assert lora[f"{module}.lora_A.weight"].shape == (rank, into)
            assert lora[f"{module}.lora_B.weight"].shape == (out, rank)
    # The text's query in the last block gets no gradient, as its result is not used.
    assert (
        sum(bool(lora[f"{module}.lora_B.weight"].any()) for module in modules) >= len(modules) - 1
    )


def test_comfyuis_own_nodes_accept_the_lora(server, finished, lora_file):
    folder = server.base / "output" / "stock"
    files = {path.name.split("_0")[0]: load_file(path) for path in folder.glob("*.safetensors")}
    lora = load_file(lora_file)
    assert files["lora"].keys() == lora.keys()
    assert all((files["lora"][key] == lora[key]).all() for key in lora)
    base, stock, ours = files["base"], files["stock"], files["ours"]
    assert base.keys() == stock.keys() == ours.keys()
    assert any((stock[key] != base[key]).any() for key in base)
    assert all((stock[key] == ours[key]).all() for key in base)


def test_the_lora_is_found_by_its_name(server, finished, lora_file):
    graph = {key: copy.deepcopy(finished[0][key]) for key in ("unet", "ours", "save_ours")}
    graph["save_ours"]["inputs"]["filename_prefix"] = "stock/named"
    del graph["ours"]["inputs"]["aligned"]
    message, node_type = error_of(server, graph)
    assert node_type == "GDRO_LoadAlignedLoRA"
    assert message.startswith("lora_name: 'gone' is not")
    graph["ours"]["inputs"]["lora_name"] = str(Path("gdro", lora_file.name))
    server.run(graph)
    [ours], [named] = (
        list((server.base / "output" / "stock").glob(f"{name}_0*")) for name in ("ours", "named")
    )
    expected, actual = load_file(ours), load_file(named)
    assert actual.keys() == expected.keys()
    assert all((actual[key] == expected[key]).all() for key in expected)


def test_a_lora_for_another_model_is_refused_by_name(server, transformer):
    module = "transformer.transformer_blocks.0.attn.to_q"
    lora = {
        f"{module}.lora_A.weight": torch.zeros(4, 3072),
        f"{module}.lora_B.weight": torch.zeros(3072, 4),
    }
    save_file(lora, server.base / "models" / "loras" / "for_flux.safetensors")
    patch = {"model": ["unet", 0], "lora_name": "for_flux.safetensors", "strength": 1.0}
    graph = {
        "unet": {
            "class_type": "UNETLoader",
            "inputs": {"unet_name": transformer.name, "weight_dtype": "default"},
        },
        "ours": {"class_type": "GDRO_LoadAlignedLoRA", "inputs": patch},
        "save": {
            "class_type": "ModelSave",
            "inputs": {"model": ["ours", 0], "filename_prefix": "stock/never"},
        },
    }
    message, node_type = error_of(server, graph)
    assert "model: for_flux.safetensors was trained for another model" in message
    assert "(3072, 3072) in the LoRA" in message
    assert node_type == "GDRO_LoadAlignedLoRA"


def test_a_second_run_makes_nothing_new(server, finished):
    graph = {k: node for k, node in finished[0].items() if node["class_type"] != "ModelSave"}
    folders = server.base / "output" / "gdro", server.base / "models" / "loras"
    before = stamps(*folders)
    server.run(graph)
    cached = server.run(graph)
    server.forget()
    fresh = server.run(graph)
    assert stamps(*folders) == before
    [hits] = messages(cached, "execution_cached")
    [hits_after_restart] = messages(fresh, "execution_cached")
    assert node_id(graph, TRAIN) in hits["nodes"]
    assert not hits_after_restart["nodes"]
    evaluation = node_id(graph, "GDRO_EvaluateAlignment")
    assert fresh["outputs"][evaluation]["text"] == finished[1]["outputs"][evaluation]["text"]
