"""What a LoRA file holds besides layers: named, left out with a word, or refused."""

import pytest
import torch
from safetensors.torch import save_file

from gdro_comfy.data import lora_file
from gdro_comfy.errors import InputError
from gdro_comfy.lora import files

NAME = "transformer_blocks.0.attn.to_q"
DOWN, UP = torch.ones(4, 32), torch.ones(32, 4)


def factors(prefix="transformer.", adapter="", down=DOWN, up=UP):
    end = f".{adapter}" if adapter else ""
    return {
        f"{prefix}{NAME}.lora_A{end}.weight": down,
        f"{prefix}{NAME}.lora_B{end}.weight": up,
        f"{prefix}{NAME}.alpha": torch.tensor(4.0),
    }


def read(tensors):
    return lora_file.from_tensors(tensors, {}, "x", "lora_1").layers


@pytest.mark.parametrize("adapter", ["", "default", "default_0", "old", "thickline_fp16"])
def test_the_adapters_name_in_the_keys_does_not_matter(adapter):
    [layer] = read(factors(adapter=adapter)).values()
    assert torch.equal(layer.update(), torch.full((32, 32), 4.0))


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (".lora_A", ".lora_B"),
        (".lora.down.weight", ".lora.up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    ],
)
def test_names_of_factors_that_comfyui_reads(down, up):
    assert list(read({f"{NAME}{down}": DOWN, f"{NAME}{up}": UP})) == [NAME]


@pytest.mark.parametrize(
    "prefix",
    ["", "transformer.base_model.model.", "base_model.model.transformer.", "unet.", "model.diffusion_model."],
)  # fmt: skip
def test_prefixes_in_any_row_belong_to_no_module(prefix):
    assert lora_file.module_name(f"{prefix}{NAME}") == NAME


@pytest.mark.parametrize(
    "name",
    [
        "lora_te1_text_model_encoder_layers_0_mlp_fc1", "lora_prior_te_text_model_encoder_layers_0_mlp_fc1",
        "text_encoder_2.text_model.encoder.layers.0.mlp.fc1", "t5.encoder.block.0.layer.0.SelfAttention.q",
        "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1",
    ],
)  # fmt: skip
def test_layers_of_text_encoders_are_left_out_with_a_word(caplog, name):
    tensors = factors() | {f"{name}.lora_down.weight": DOWN, f"{name}.lora_up.weight": UP}
    assert list(read(tensors)) == [f"transformer.{NAME}"]
    assert "its 2 tensors for text encoders are left out" in caplog.text


OTHERS = [
    ({f"transformer.{NAME}.lora_magnitude_vector": torch.ones(32)}, "is a DoRA"),
    ({f"transformer.{NAME}.lora_magnitude_vector.weight": torch.ones(32)}, "is a DoRA"),
    ({f"transformer.{NAME}.lora_B.bias": torch.ones(32)}, "changes of biases"),
    ({f"transformer.{NAME}.diff_b": torch.ones(32)}, "changes of biases"),
    ({f"transformer.{NAME}.reshape_weight": torch.tensor([32, 32])}, "is a Control LoRA"),
    ({f"{NAME}.lokr_w1": torch.ones(2, 2)}, "is a LoKr"),
    ({"oft_unet_x.oft_blocks": torch.ones(2, 2, 2)}, "is an OFT"),
    ({"x.processor.qkv_lora1.up.weight": torch.ones(2, 2)}, "layout of XLabs"),
    ({f"transformer.{NAME}.w_norm": torch.ones(2)}, "does not belong to a plain LoRA"),
    (factors("diffusion_model.", "old"), "several adapters"),
    (factors(adapter="default"), "twice, or several adapters"),
]


@pytest.mark.parametrize(("others", "message"), OTHERS)
def test_parts_that_would_be_lost_are_refused_at_every_door(others, message):
    with pytest.raises(InputError, match=f"lora_1: x .*{message}"):
        read(factors() | others)
    with pytest.raises(InputError, match=f"lora: x .*{message}"):
        files.from_file_keys(factors() | others, "x")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (factors(down=DOWN * float("nan")), "not finite numbers"),
        (factors(up=UP / 0), "not finite numbers"),
        (factors(down=torch.ones(0, 32), up=torch.ones(32, 0)), "has rank 0"),
        (factors(up=torch.ones(32, 8)), "have the ranks 4 and 8"),
        (factors(down=torch.ones(4, 32, dtype=torch.int8)), "stored as torch.int8"),
        (factors(down=torch.ones(4), up=torch.ones(4)), "not a pair of matrices"),
        (factors() | {f"transformer.{NAME}.alpha": torch.tensor(float("inf"))}, "not one finite number"),
        (factors() | {"transformer.x.alpha": torch.tensor(4.0)}, "alpha for transformer.x"),
    ],
)  # fmt: skip
def test_layers_that_are_no_numbers_are_refused_at_every_door(tensors, message):
    with pytest.raises(InputError, match=f"lora_1: .*{message}"):
        read(tensors)
    with pytest.raises(InputError, match=f"lora: .*{message}"):
        files.from_file_keys(tensors, "x")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"img_in.weight": torch.ones(2, 2)}, "is not a LoRA: it contains 'img_in.weight'"),
        ({"clip_l": torch.ones(4, 8), "clip_g": torch.ones(4, 8)}, "is an embedding"),
        ({f"{NAME}.lora_A.weight": DOWN}, r"incomplete: .*no up \(B\)"),
    ],
)
def test_files_of_something_else_are_named(tensors, message):
    with pytest.raises(InputError, match=message):
        read(tensors)


def test_a_lora_without_effect_is_said(caplog):
    read(factors(up=UP * 0))
    assert "x changes nothing" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "pointer of Git LFS"),
        (b"<!DOCTYPE html><html>Sign in</html>", "a web page"),
        (b"PK\x03\x04xxxx", "a pickle"),
        (b"\xff" * 100, "not a safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":[1,2,3,4,5]' + bytes(9), "not a safetensors file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00" + b'{"a":[1,2,3,4]} ' + bytes(9), "not a safetensors file"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read_are_called_what_they_are(tmp_path, content, message):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(InputError, match=f"x.safetensors cannot be read .*{message}"):
        lora_file.load(tmp_path / "x.safetensors", "lora_1")


def test_a_cut_file_and_an_unknown_dtype_are_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file(factors(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(InputError, match="is incomplete"):
        lora_file.load(path, "lora_1")
    path.write_bytes(whole.replace(b'"F32"', b'"F99"'))
    with pytest.raises(InputError, match="cannot be read"):
        lora_file.load(path, "lora_1")
