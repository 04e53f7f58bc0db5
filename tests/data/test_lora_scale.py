"""The scale of LoRA files whose alpha is not in their tensors, compared with peft and diffusers."""

import json
import logging

import pytest
import tiny_models
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

from gdro_comfy.data import lora_file
from gdro_comfy.errors import InputError

NAME = "transformer_blocks.0.attn.to_q"


def factors(prefix="transformer.", name=NAME, rank=4):
    return {
        f"{prefix}{name}.lora_A.weight": torch.ones(rank, 32),
        f"{prefix}{name}.lora_B.weight": torch.ones(32, rank),
    }


def scale(texts, tensors=None):
    [layer] = lora_file.from_tensors(tensors or factors(), texts, "x", "lora_1").layers.values()
    return layer.scale


def packed(**fields):
    return {"lora_adapter_metadata": json.dumps({f"transformer.{k}": v for k, v in fields.items()})}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (packed(r=4, lora_alpha=16), 4.0),
        (packed(r=4, lora_alpha=16, use_rslora=True), 8.0),
        (packed(r=4, lora_alpha=4, alpha_pattern={"attn.to_q": 12}), 3.0),
        (packed(r=8, lora_alpha=4, rank_pattern={"to_q": 4}, alpha_pattern={"to_k": 99}), 1.0),
        (packed(r=4, lora_alpha=4, alpha_pattern={"^transformer_blocks.0.attn.to_q$": 2}), 0.5),
        (packed(r=4, lora_alpha=0), 0.0),
        ({"transformer.lora_alpha": "16", "transformer.r": "4"}, 4.0),
        ({"lora_alpha": "8"}, 2.0),
        ({"ss_network_alpha": "16.0", "ss_network_dim": "4"}, 4.0),
        ({"ss_network_alpha": "Dynamic", "ss_network_dim": "Dynamic"}, 1.0),
        ({}, 1.0),
    ],
)
def test_the_header_gives_the_scale(texts, expected):
    assert scale(texts) == expected


def test_an_assumed_scale_is_said_and_a_stated_one_too(caplog):
    with caplog.at_level(logging.INFO):
        scale({})
        assert "scale 1 is assumed for 1 of its 1 layers" in caplog.text
        caplog.clear()
        scale(packed(r=4, lora_alpha=16))
        assert "scale 4 from lora_adapter_metadata in its header" in caplog.text


def test_an_alpha_of_the_tensors_counts_more_than_a_header_that_differs(caplog):
    tensors = {**factors(), f"transformer.{NAME}.alpha": torch.tensor(2.0)}
    assert scale(packed(r=4, lora_alpha=16), tensors) == 0.5
    assert "its own alpha gives 0.5, which counts" in caplog.text


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (packed(r=8, lora_alpha=16), "says rank 8, .*has rank 4"),
        (packed(r=4, lora_alpha="much"), "says alpha 'much'"),
        (packed(r=4, lora_alpha=1e999), "not a finite number"),
        (packed(r=4, lora_alpha=8, alpha_pattern={"(a|b)+": 3}), "pattern that is not a name"),
        ({"lora_adapter_metadata": "{"}, "is not JSON"),
        ({"lora_adapter_metadata": "[1]"}, "is not an object"),
        (
            {**packed(r=4, lora_alpha=8), "ss_network_alpha": "4"},
            "gives .* the scale 1, .* gives 2",
        ),
        (packed(r=4, lora_alpha=8, use_dora=True), "is a DoRA, as lora_adapter_metadata"),
        (packed(r=4, lora_alpha=8, init_lora_weights="pissa_niter_4"), r"start \(pissa_niter_4\)"),
    ],
)
def test_what_gives_no_clear_scale_is_refused(texts, message):
    with pytest.raises(InputError, match=f"lora_1: .*{message}"):
        scale(texts)


def test_the_header_means_the_same_as_in_diffusers(tmp_path):
    """Two layers of different rank and alpha, of which the header alone knows."""
    other = "transformer_blocks.1.attn.to_v"
    texts = packed(
        r=4, lora_alpha=8, target_modules=["to_q", "to_v"],
        rank_pattern={other: 2}, alpha_pattern={other: 6},
    )  # fmt: skip
    tensors = {**factors(), **factors(name=other, rank=2)}
    save_file(tensors, tmp_path / "x.safetensors", texts)
    pipeline = tiny_models.sd3_pipeline()
    pipeline.load_lora_weights(str(tmp_path), weight_name="x.safetensors", adapter_name="x")
    theirs = dict(pipeline.transformer.named_modules())
    layers = lora_file.load(tmp_path / "x.safetensors", "lora_1").layers
    assert len(layers) == 2
    for name, layer in layers.items():
        assert layer.scale == theirs[lora_file.module_name(name)].scaling["x"]


@pytest.mark.parametrize("stabilised", [False, True])
def test_the_folder_that_peft_writes_gives_pefts_update(tmp_path, stabilised):
    torch.manual_seed(0)
    network = tiny_models.sd3_pipeline().transformer
    config = LoraConfig(
        r=4, lora_alpha=9, use_rslora=stabilised, target_modules=["to_q", "to_v"],
        init_lora_weights=False, alpha_pattern={"attn.to_v": 3},
    )  # fmt: skip
    model = get_peft_model(network, config)
    model.save_pretrained(tmp_path)
    lora = lora_file.load(tmp_path / "adapter_model.safetensors", "lora_1")
    assert lora.scale_from.endswith("from adapter_config.json")
    theirs = dict(model.base_model.model.named_modules())
    for name, layer in lora.layers.items():
        delta = theirs[lora_file.module_name(name)].get_delta_weight("default")
        assert torch.allclose(layer.update(), delta, atol=1e-6)
    assert len(lora.layers) > 4


def test_a_configuration_counts_for_the_file_that_it_belongs_to_alone(tmp_path, caplog):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 4, "lora_alpha": 16}))
    for name in ("renamed", "adapter_model"):
        save_file(factors(), tmp_path / f"{name}.safetensors")
        [layer] = lora_file.load(tmp_path / f"{name}.safetensors", "lora_1").layers.values()
        assert layer.scale == 4, f"{name} beside {len(list(tmp_path.iterdir())) - 2} others"
    [layer] = lora_file.load(tmp_path / "renamed.safetensors", "lora_1").layers.values()
    assert layer.scale == 1
    assert "scale 1 is assumed" in caplog.text


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{}{", "is not JSON"),
        (json.dumps({"peft_type": "LOHA", "r": 4}), "an adapter of the type LOHA"),
        (json.dumps({"r": 4, "lora_alpha": 16, "use_dora": True}), "a DoRA"),
    ],
)
def test_a_configuration_of_another_kind_is_refused(tmp_path, config, message):
    (tmp_path / "adapter_config.json").write_text(config)
    save_file(factors(), tmp_path / "adapter_model.safetensors")
    with pytest.raises(InputError, match=message):
        lora_file.load(tmp_path / "adapter_model.safetensors", "lora_1")
