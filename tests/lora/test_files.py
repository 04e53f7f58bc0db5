"""LoRA files: the keys that ComfyUI reads, and the files that are refused."""

import pytest
import torch
from safetensors.torch import save_file

from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.errors import InputError
from gdro_comfy.lora import files

NAME = "transformer_blocks.0.attn.to_q"


def tensors(rank=4, rows=256, columns=256, module=NAME, alpha=8.0):
    """The tensors of a file with one layer."""
    return {
        f"transformer.{module}.lora_A.weight": torch.randn(rank, columns),
        f"transformer.{module}.lora_B.weight": torch.randn(rows, rank),
        f"transformer.{module}.alpha": torch.tensor(alpha),
    }


def test_writing_and_reading_are_inverse():
    parameters = {f"{NAME}.lora_A": torch.randn(4, 128), f"{NAME}.lora_B": torch.randn(256, 4)}
    exported = files.to_file_keys(LoRAWeights(parameters, 4, 8.0))
    weights = files.from_file_keys(exported, "x")
    assert weights.tensors.keys() == parameters.keys()
    assert torch.equal(weights.tensors[f"{NAME}.lora_A"], parameters[f"{NAME}.lora_A"])
    assert torch.equal(weights.tensors[f"{NAME}.lora_B"], 2 * parameters[f"{NAME}.lora_B"])
    assert (weights.modules, weights.shapes()) == ((NAME,), {NAME: (256, 128)})
    assert (weights.rank, weights.scale) == (4, 1.0)


def test_an_older_file_with_alphas_keeps_its_scale():
    weights = files.from_file_keys(tensors(alpha=8.0), "x")
    assert (weights.rank, weights.alpha, weights.scale) == (4, 8.0, 2.0)


def test_without_an_alpha_the_scale_is_1():
    content = tensors()
    del content[f"transformer.{NAME}.alpha"]
    assert files.from_file_keys(content, "x").scale == 1


def test_what_is_written_is_a_copy_in_float32():
    parameters = {f"{NAME}.lora_A": torch.ones(4, 256).bfloat16()}
    weights = LoRAWeights(parameters, 4, 4.0)
    exported = files.to_file_keys(weights)[f"transformer.{NAME}.lora_A.weight"]
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
def test_a_lora_for_another_model_is_refused(bundled_model, content, message):
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
def test_other_files_and_incomplete_layers_are_refused(content):
    with pytest.raises(InputError, match="holds no LoRA"):
        files.from_file_keys(content, "x")


@pytest.mark.parametrize("other", [{"rank": 8}, {"alpha": 2.0}])
def test_layers_of_different_rank_or_alpha_are_refused(other):
    mixed = {**tensors(), **tensors(module="transformer_blocks.1.attn.to_q", **other)}
    with pytest.raises(InputError, match="different rank or alpha"):
        files.from_file_keys(mixed, "x")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 100)
    for name in ("broken.safetensors", "absent.safetensors"):
        with pytest.raises(InputError, match="cannot be read"):
            files.load(tmp_path / name)


def test_a_file_is_read_back(tmp_path):
    content = tensors()
    save_file(content, tmp_path / "a.safetensors")
    weights = files.load(tmp_path / "a.safetensors")
    expected = content[f"transformer.{NAME}.lora_B.weight"]
    assert torch.equal(weights.tensors[f"{NAME}.lora_B"], expected)
