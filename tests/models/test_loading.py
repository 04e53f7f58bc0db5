"""Loading folders: what is refused beforehand, how a model is identified, and that the log stays clean."""

import json
import logging
import shutil

import diffusers
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


def test_missing_weights_are_reported(copy):
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


def test_the_identity_depends_on_the_weights_and_not_on_the_folder(copy):
    original = loading.bundled_folder("tiny SD3")
    assert fingerprints.of_part(copy, "transformer") == fingerprints.of_part(
        original, "transformer"
    )
    path = next((copy / "transformer").glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprints.of_part(copy, "transformer") != fingerprints.of_part(
        original, "transformer"
    )


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


@pytest.mark.filterwarnings("error::FutureWarning", "error::DeprecationWarning")
def test_loading_logs_no_deprecation_and_no_other_warning(caplog):
    for name in ("diffusers", "transformers"):
        logging.getLogger(name).addHandler(caplog.handler)
    try:
        model = loading.load(loading.bundled_folder("tiny SD3"), CPU, "bfloat16")
    finally:
        for name in ("diffusers", "transformers"):
            logging.getLogger(name).removeHandler(caplog.handler)
    assert model.dtype == torch.bfloat16
    assert [record.getMessage() for record in caplog.records] == []


@pytest.mark.parametrize(
    ("version", "keyword"),
    [("0.33.0", "torch_dtype"), ("0.39.0", "torch_dtype"), ("0.40.0", "dtype"), ("1.0.0", "dtype")],
)
def test_the_dtype_has_the_name_that_this_diffusers_knows(monkeypatch, version, keyword):
    monkeypatch.setattr(diffusers, "__version__", version)
    assert loading._dtype_keyword() == keyword


def test_everything_bundled_is_small_enough():
    assets = loading.bundled_folder("tiny SD3").parent
    size = sum(path.stat().st_size for path in assets.rglob("*") if path.is_file())
    assert size < 40_000_000
