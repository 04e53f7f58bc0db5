"""Sampling builds no autograd graph and training does, also under ComfyUI's inference mode."""

import pytest
import tiny_models
import torch

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model

FAMILIES = {
    "sd3": lambda: SD3Model(tiny_models.sd3_pipeline(), {"pipeline": "tiny"}, torch.device("cpu")),
    "flux": lambda: FluxModel(
        tiny_models.flux_pipeline(), {"pipeline": "tiny"}, torch.device("cpu")
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_while_an_adapter_is_trained_builds_no_graph(family, monkeypatch):
    model = FAMILIES[family]()
    config = AdapterConfig(2, 2.0, "attention")
    with torch.enable_grad(), model.active(), model.adapters(config, 0) as parameters:
        cond = model.encode([Prompt("a red circle")])
        with_graph = []
        velocity = model.velocity

        def watched(*args):
            v = velocity(*args)
            with_graph.append(v.requires_grad)
            return v

        monkeypatch.setattr(model, "velocity", watched)
        latents = model.sample(cond, [1], 3, 1.0, (64, 64))
        images = model.decode(latents)
        again = model.encode_images(images)
        assert with_graph == [False] * 3
        assert not any(t.requires_grad for t in (latents, images, again, *cond.tensors.values()))
        x = seeded_noise([1], latents.shape[1:])
        model.velocity(x, torch.tensor([0.5]), cond).square().mean().backward()
        assert all(p.grad is not None for p in parameters.values())


@pytest.mark.parametrize("family", FAMILIES)
def test_results_under_inference_mode_can_be_trained_on(family):
    model = FAMILIES[family]()
    with torch.inference_mode():
        cond = model.encode([Prompt("a red circle")])
        latents = model.sample(cond, [1], 2, 1.0, (64, 64))
        images = model.decode(latents)
    assert not any(t.is_inference() for t in (latents, images, *cond.tensors.values()))
