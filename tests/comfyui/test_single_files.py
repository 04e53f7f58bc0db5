"""A FLUX.1 of single files from ComfyUI's model folders, with ComfyUI's own tokenizers."""

import shutil

import pytest
import single_file_models as small
import tiny_models
import torch
from comfyui_server import messages

from gdro_comfy.models import original_layouts

FILES = {"transformer": "f1.safetensors", "clip_l": "cl.safetensors", "t5": "t5.safetensors"}


@pytest.fixture(scope="module")
def flux_files(server, tmp_path_factory):
    """Small files of real widths and vocabularies, T5 in fp8, in ComfyUI's model folders."""
    eight = torch.float8_e4m3fn
    t5 = {key: tensor.to(eight) for key, tensor in small.encoder(small.t5(32128)).items()}
    names = original_layouts.flux_names(2, 2)
    paths = small.write(
        tmp_path_factory.mktemp("files"),
        f1=small.original(small.flux_transformer(), names),
        cl=small.encoder(small.clip(768, False, 49408, 77)),
        t5=t5,
        ae=small.original_vae(tiny_models.vae(32, 32)),
    )
    models = server.base / "models"
    folders = {"f1": "diffusion_models", "cl": "text_encoders", "t5": "text_encoders", "ae": "vae"}
    for name, folder in folders.items():
        (models / folder).mkdir(exist_ok=True)
        shutil.move(paths[name], models / folder / paths[name].name)
    yield
    for name, folder in folders.items():
        (models / folder / f"{name}.safetensors").unlink()


def graph(**changes):
    files = {**FILES, "clip_g": "none", "vae": "ae.safetensors", **changes}
    source = {f"source.{name}": file for name, file in files.items()}
    generate = {
        "model": ["load", 0], "prompt": 'a sign that says "OPEN"', "images": 1, "steps": 1,
        "guidance": 3.5, "width": 64, "height": 64, "seed": 0, "strength": 1.0,
    }  # fmt: skip
    return {
        "load": {
            "class_type": "GDRO_LoadBaseModel",
            "inputs": {"source": "single files", **source, "dtype": "auto"},
        },
        "generate": {"class_type": "GDRO_Generate", "inputs": generate},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["generate", 0]}},
    }


def test_a_model_of_single_files_generates(server, flux_files):
    entry = server.run(graph())
    assert len(entry["outputs"]["show"]["images"]) == 1


def test_a_wrong_file_is_reported_on_the_node(server, flux_files):
    entry = server.wait(server.queue(graph(vae="none", t5="cl.safetensors")))
    [error] = messages(entry, "execution_error")
    assert error["node_type"] == "GDRO_LoadBaseModel"
    assert "t5: cl.safetensors is a CLIP-L text encoder" in error["exception_message"]
    assert "Choose this file at clip_l." in error["exception_message"]


def test_the_node_lists_comfyuis_files(server, flux_files):
    info = server.get("/object_info/GDRO_LoadBaseModel")["GDRO_LoadBaseModel"]
    text = str(info["input"])
    assert "single files" in text
    assert "f1.safetensors" in text
    assert "'none', 'cl.safetensors'" in text
