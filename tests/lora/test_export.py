"""Exported LoRA files in diffusers: every layer, at the training's scale, whatever its alpha."""

import pytest
import tiny_models
import torch

from gdro_comfy.data.files import write_tensors
from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.lora import files
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model

PIPELINES = {
    "sd3": (SD3Model, tiny_models.sd3_pipeline),
    "flux": (FluxModel, tiny_models.flux_pipeline),
}


@pytest.mark.parametrize("alpha", [4.0, 8.0, 3.0])
@pytest.mark.parametrize("family", PIPELINES)
def test_diffusers_adds_the_update_of_the_training(tmp_path, family, alpha):
    kind, make = PIPELINES[family]
    model = kind(make(), {"pipeline": family}, torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad(), model.adapters(AdapterConfig(4, alpha, "attention+mlp")) as parameters:
        for parameter in parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        weights = LoRAWeights({k: v.detach().clone() for k, v in parameters.items()}, 4, alpha)
        write_tensors(tmp_path / "x.safetensors", files.to_file_keys(weights))
    pipeline = make()
    pipeline.load_lora_weights(str(tmp_path), weight_name="x.safetensors", adapter_name="x")
    modules = dict(pipeline.transformer.named_modules())
    ours = files.load(tmp_path / "x.safetensors")
    assert set(ours.modules) == set(weights.modules)
    for name in weights.modules:
        expected = alpha / 4 * weights.tensors[f"{name}.lora_B"] @ weights.tensors[f"{name}.lora_A"]
        assert torch.allclose(modules[name].get_delta_weight("x"), expected, atol=1e-5)
        update = ours.scale * ours.tensors[f"{name}.lora_B"] @ ours.tensors[f"{name}.lora_A"]
        assert torch.allclose(update, expected, atol=1e-5)
