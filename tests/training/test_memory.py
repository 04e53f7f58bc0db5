"""What a training is estimated to take, and what is refused with the settings that would fit."""

import dataclasses

import pytest
import tiny_models
import torch

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model
from gdro_comfy.training import memory
from gdro_comfy.training.config import TrainConfig

CONFIG = TrainConfig(groups_per_step=2)


class Big:
    """The figures of FLUX.1-dev in bfloat16 at 512 pixels."""

    device = torch.device("cuda")

    def weights_in_bytes(self):
        return int(23.8e9)

    def activations_in_bytes(self, size, checkpointed):
        return int(0.6e9 if checkpointed else 9.7e9)


def planned(monkeypatch, host, budget, **changes):
    monkeypatch.setattr(memory, "_budget", lambda device: budget)
    config = dataclasses.replace(CONFIG, **changes)
    return memory.plan(host, Big(), (512, 512), 6, 90_000_000, config).images_at_once


@pytest.mark.parametrize(
    ("budget", "checkpointing", "images"),
    [(200e9, False, 12), (110e9, False, 6), (80e9, False, 5), (80e9, True, 12), (28.5e9, True, 3)],
)
def test_as_many_images_as_fit_go_at_once(monkeypatch, host, budget, checkpointing, images):
    found = planned(monkeypatch, host, budget, gradient_checkpointing=checkpointing)
    assert found == images
    assert host.reports[-1][0].startswith("training, about ")
    need = memory.estimate(Big(), (512, 512), found, 90_000_000, checkpointing)
    assert need <= budget


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch, host):
    with pytest.raises(InputError, match="turn on gradient_checkpointing; or .*8-bit"):
        planned(monkeypatch, host, 30e9)
    with pytest.raises(InputError, match="needs about 36.* has 24.0 GB.*8-bit.*; or .*nf4"):
        planned(monkeypatch, host, 24e9)
    with pytest.raises(InputError, match="What would fit: load the model with quantization nf4"):
        planned(monkeypatch, host, 12e9)
    with pytest.raises(InputError, match="smaller pictures"):
        planned(monkeypatch, host, 6e9)


def test_the_users_own_number_is_kept_and_a_cpu_has_no_limit(monkeypatch, host):
    assert planned(monkeypatch, host, 30e9, images_at_once=2) == 2
    assert planned(monkeypatch, host, None) == 12


@pytest.mark.parametrize("kind", ["flux", "sd3"])
@pytest.mark.parametrize("checkpointed", [False, True])
def test_the_estimate_is_near_what_autograd_keeps(kind, checkpointed):
    """Within a factor of the bytes that are really saved for the backward pass, on a wide model."""
    import diffusers

    torch.manual_seed(0)
    if kind == "flux":
        pipeline = tiny_models.flux_pipeline()
        pipeline.transformer = diffusers.FluxTransformer2DModel(
            num_layers=2, num_single_layers=4, attention_head_dim=64, num_attention_heads=4,
            axes_dims_rope=(8, 28, 28), joint_attention_dim=48, pooled_projection_dim=32,
            guidance_embeds=True,
        )  # fmt: skip
        model = FluxModel(pipeline, {}, torch.device("cpu"))
        cond = model.encode([Prompt("a red circle")])
    else:
        pipeline = tiny_models.sd3_pipeline()
        pipeline.transformer = diffusers.SD3Transformer2DModel(
            sample_size=64, num_layers=6, attention_head_dim=64, num_attention_heads=4,
            joint_attention_dim=72, caption_projection_dim=256, pooled_projection_dim=64,
            pos_embed_max_size=64, dual_attention_layers=(0, 1, 2), qk_norm="rms_norm",
        )  # fmt: skip
        model = SD3Model(pipeline, {}, torch.device("cpu"))
        cond = model.encode([Prompt("a red circle")])
    kept: dict[int, int] = {}
    weights = {p.data_ptr() for p in model.transformer.parameters()}

    def remember(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor)
    x, sigma = seeded_noise([0], (16, 64, 64)), torch.tensor([0.5])
    config = AdapterConfig(8, 8.0, "attention+mlp")
    with model.adapters(config) as parameters, model.checkpointed(checkpointed), hooks:
        weights |= {p.data_ptr() for p in parameters.values()}
        v = model.velocity(x, sigma, cond)
    assert v.requires_grad
    found = sum(kept.values())
    estimated = model.activations_in_bytes((512, 512), checkpointed)
    if checkpointed:
        # What is computed again inside of a block comes on top.
        estimated -= model.activations_in_bytes((512, 512), False) / 6
    assert 0.75 * found < estimated < 1.4 * found
