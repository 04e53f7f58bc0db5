"""LoRA files: the keys ComfyUI reads, and what is refused."""

import pytest
import torch
from safetensors.torch import save_file

from gdro_comfy.errors import InputError
from gdro_comfy.lora import files

NAME = "transformer_blocks.0.attn.to_q"


def tensors(rank=4, rows=256, columns=256, module=NAME):
    return {
        f"transformer.{module}.lora_A.weight": torch.randn(rank, columns),
        f"transformer.{module}.lora_B.weight": torch.randn(rows, rank),
        f"transformer.{module}.alpha": torch.tensor(8.0),
    }


def test_export_and_import_are_inverse():
    parameters = {f"{NAME}.lora_A": torch.randn(4, 256), f"{NAME}.lora_B": torch.randn(256, 4)}
    exported = files.to_file_keys(parameters, 8.0)
    assert set(exported) == set(tensors())
    state = files.from_file_keys(exported, "x")
    assert torch.equal(state[f"{NAME}.lora_A"], parameters[f"{NAME}.lora_A"])
    assert float(state[f"{NAME}.alpha"]) == 8.0


def test_export_is_a_copy_in_float32():
    parameters = {f"{NAME}.lora_A": torch.ones(4, 256).bfloat16()}
    exported = files.to_file_keys(parameters, 4.0)[f"transformer.{NAME}.lora_A.weight"]
    parameters[f"{NAME}.lora_A"].zero_()
    assert exported.dtype == torch.float32
    assert exported.min() == 1


def test_a_lora_that_fits_passes(bundled_model):
    files.check_fits(files.from_file_keys(tensors(), "x"), bundled_model, "x")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (tensors(columns=1536), "model of another size"),
        (tensors(rows=1536), "model of another size"),
        (tensors(module="transformer_blocks.9.attn.to_q"), "does not have"),
        (
            tensors(module="single_transformer_blocks.0.attn.to_q"),
            r"x is a LoRA for FLUX\.1, this model is Stable Diffusion 3",
        ),
    ],
)
def test_a_lora_of_other_shapes_is_refused(bundled_model, content, message):
    with pytest.raises(InputError, match=message):
        files.check_fits(files.from_file_keys(content, "x"), bundled_model, "x")


@pytest.mark.parametrize(
    "content",
    [
        {"lora_unet_x.lora_up.weight": torch.ones(1)},
        {f"transformer.{NAME}.lora_A.weight": torch.ones(4, 256)},
        {},
    ],
)
def test_what_is_no_lora_of_ours_is_refused(content):
    with pytest.raises(InputError, match="holds no LoRA"):
        files.from_file_keys(content, "x")


def test_layers_of_different_rank_are_refused():
    mixed = {**tensors(4), **tensors(8, module="transformer_blocks.1.attn.to_q")}
    with pytest.raises(InputError, match="different rank"):
        files.from_file_keys(mixed, "x")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 100)
    for name in ("broken.safetensors", "absent.safetensors"):
        with pytest.raises(InputError, match="cannot be read"):
            files.load(tmp_path / name)


def test_a_file_is_read_back(tmp_path):
    save_file(tensors(), tmp_path / "a.safetensors")
    assert files.load(tmp_path / "a.safetensors")[f"{NAME}.lora_B"].shape == (256, 4)


def test_the_header_says_what_creators_tools_look_for(bundled_model):
    import dataclasses

    from gdro_comfy.lora.metadata import header
    from gdro_comfy.models.base import AdapterConfig
    from gdro_comfy.training.config import TrainConfig

    config = TrainConfig(steps=7, adapter=AdapterConfig(16, 8.0))
    record = {
        "objective": {"name": "GDRO"},
        "training": dataclasses.asdict(config),
        "rollout": {"size": [512, 768]},
        "reward": "ocr-12345678.jsonl",
        "prompts": "abc",
    }
    found = header("my_style", bundled_model, record)
    assert all(isinstance(value, str) for value in found.values())
    assert found["modelspec.sai_model_spec"] == "1.0.0"
    assert found["modelspec.architecture"] == "stable-diffusion-3/lora"
    assert found["modelspec.resolution"] == "512x768"
    assert (found["ss_network_dim"], found["ss_network_alpha"]) == ("16", "8.0")
    assert (found["ss_base_model_version"], found["ss_steps"]) == ("sd3", "7")
    assert (found["gdro.method"], found["gdro.reward"]) == ("GDRO", "ocr")
    assert (found["modelspec.title"], found["ss_output_name"]) == ("my_style", "my_style")
