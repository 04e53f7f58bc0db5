"""A quantized base: real bitsandbytes if it is installed, a clear message if it is not."""

import sys

import pytest
import tiny_models
import torch

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models import quantization
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel

CPU = torch.device("cpu")


def make():
    pipeline = tiny_models.flux_pipeline(heads=1, head_width=128)
    return FluxModel(pipeline, {"pipeline": "tiny"}, CPU)


def velocity(model, cond):
    return model.velocity(seeded_noise([1, 2], (16, 8, 8)), torch.tensor([0.3, 0.8]), cond)


@pytest.mark.parametrize("method", ["8-bit", "nf4"])
def test_a_quantized_base_is_smaller_close_to_the_original_and_trainable(host, method):
    pytest.importorskip("bitsandbytes")
    model = make()
    cond = model.encode([Prompt("a red circle"), Prompt("one star")])
    with torch.no_grad():
        before, size = velocity(model, cond), model.weights_in_bytes()
    shapes = model.linear_shapes()
    model.prepare(host, quantization=method)
    assert model.linear_shapes() == shapes
    assert model.weights_in_bytes() < size * {"8-bit": 0.6, "nf4": 0.5}[method]
    with torch.no_grad():
        after = velocity(model, cond)
    assert 0 < (after - before).norm() / before.norm() < {"8-bit": 0.05, "nf4": 0.4}[method]
    with model.adapters(AdapterConfig(4, 4.0, "attention+mlp")) as parameters:
        assert {p.dtype for p in parameters.values()} == {torch.float32}
        with torch.no_grad():
            assert torch.allclose(velocity(model, cond), after, atol=1e-5)
        velocity(model, cond).pow(2).mean().backward()
        assert sum(float(p.grad.abs().sum()) for p in parameters.values() if p.grad is not None) > 0
    with torch.no_grad():
        assert torch.allclose(velocity(model, cond), after, atol=1e-5)


def test_without_bitsandbytes_the_node_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(InputError, match="quantization: nf4 needs bitsandbytes.*pip install"):
        quantization.check("nf4", CPU)
    quantization.check("none", CPU)


def test_an_impossible_quantization_is_refused_before_the_model_is_loaded(host):
    from gdro_comfy.stages import STAGES

    with pytest.raises(InputError, match="does not work on a device of type mps"):
        quantization.check("nf4", torch.device("mps"))
    quantization.check("8-bit", torch.device("mps"))
    source = {"source": "diffusers folder", "folder": "never opened"}
    with pytest.raises(InputError, match="quantization: 'int2' is unknown"):
        STAGES["GDRO_LoadBaseModel"](host, source=source, dtype="auto", quantization="int2")
