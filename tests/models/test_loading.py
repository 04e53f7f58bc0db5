"""Folders that are no model, or not the one: refused before anything is loaded."""

import json
import shutil

import pytest
import torch

from gdro_comfy.errors import InputError
from gdro_comfy.models import fingerprints, loading

CPU = torch.device("cpu")


@pytest.fixture
def copy(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(loading.bundled_folder("tiny SD3"), folder)
    return folder


def test_a_missing_part_is_named(copy):
    shutil.rmtree(copy / "vae")
    with pytest.raises(InputError, match="lacks its part 'vae'"):
        loading.load(copy, CPU)


def test_weights_that_are_gone_are_reported(copy):
    for path in (copy / "transformer").glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputError, match="folder: .*cannot be loaded"):
        loading.load(copy, CPU)


def test_a_truncated_file_is_reported(copy):
    path = next((copy / "transformer").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(InputError, match="folder: .*cannot be loaded"):
        loading.load(copy, CPU)


def test_another_architecture_is_named(copy):
    index = json.loads((copy / "model_index.json").read_text())
    index["_class_name"] = "StableDiffusionXLPipeline"
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="holds a StableDiffusionXLPipeline"):
        loading.load(copy, CPU)


@pytest.mark.parametrize("content", [None, "not json", "[]"])
def test_a_folder_without_an_index_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(InputError, match=r"model_index\.json"):
        loading.load(tmp_path, CPU)


def test_identity_is_of_the_weights_not_of_the_place(copy):
    original = loading.bundled_folder("tiny SD3")
    assert fingerprints.of_transformer(copy) == fingerprints.of_transformer(original)
    path = next((copy / "transformer").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprints.of_transformer(copy) != fingerprints.of_transformer(original)


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match="not bundled"):
        loading.bundled_folder("../elsewhere")
    with pytest.raises(InputError, match="dtype"):
        loading.load(loading.bundled_folder("tiny SD3"), CPU, "int4")


@pytest.mark.parametrize("name", list(loading.BUNDLED))
def test_bundled_models_have_the_shape_that_comfyui_loads(name):
    folder = loading.bundled_folder(name)
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert config["num_attention_heads"] == config["num_layers"]
    assert config["attention_head_dim"] == 64
    assert config["in_channels"] == config["out_channels"] == 16
    vae = json.loads((folder / "vae" / "config.json").read_text())
    assert (vae["scaling_factor"], vae["shift_factor"]) == (1.5305, 0.0609)


def test_everything_bundled_is_small_enough():
    assets = loading.bundled_folder("tiny SD3").parent
    size = sum(path.stat().st_size for path in assets.rglob("*") if path.is_file())
    assert size < 40_000_000
