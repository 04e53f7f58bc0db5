"""What a training is estimated to take, and what is refused with the settings that would fit."""

import dataclasses
from types import MappingProxyType

import diffusers
import pytest
import small_training
import tiny_models
import torch
from live_bytes import LiveBytes

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models import counting, flow
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model
from gdro_comfy.training import memory
from gdro_comfy.training.config import TrainConfig

CONFIG = TrainConfig(groups_per_step=2)
RANK = CONFIG.adapter.rank


class Big:
    """The figures of FLUX.1-dev in bfloat16 at 512 pixels, with 90 million trained weights."""

    device = torch.device("cuda")
    weights_may_stay_out = False
    quantizations = MappingProxyType({"8-bit": 0.51, "nf4": 0.29})
    reserved = None

    def weights_in_bytes(self):
        return int(23.8e9)

    def linear_shapes(self):
        return {"layer": (45_000_000 // RANK, 45_000_000 // RANK), "other": (1, 1)}

    def adapter_modules(self, target):
        return ["layer"]

    def reserve(self, in_bytes):
        self.reserved = in_bytes


class Streaming(Big):
    weights_may_stay_out = True
    quantizations = MappingProxyType({})


def planned(monkeypatch, host, budget, model=None, **changes):
    def count(model, example, adapter, checkpointed):
        return memory.StepMemory(0, 0.6e9 if checkpointed else 9.7e9)

    monkeypatch.setattr(memory, "_budget", lambda device: budget)
    monkeypatch.setattr(memory, "count", count)
    monkeypatch.setattr(memory.Example, "of", lambda model, rollout: None)
    config = dataclasses.replace(CONFIG, **changes)
    found = memory.plan(host, model or Big(), None, 6, config)
    return found.images_at_once, found.gradient_checkpointing


@pytest.mark.parametrize(
    ("budget", "asked", "images", "recomputed"),
    [
        (200e9, False, 12, False),
        (110e9, False, 6, False),
        (80e9, False, 12, True),  # 5 would fit without
        (80e9, True, 12, True),
        (30e9, False, 6, True),  # not one would fit without
        (28.5e9, True, 3, True),
    ],
)
def test_as_many_images_as_fit_go_at_once(monkeypatch, host, budget, asked, images, recomputed):
    model = Big()
    found = planned(monkeypatch, host, budget, model, gradient_checkpointing=asked)
    assert found == (images, recomputed)
    assert host.reports[-1][0].startswith("training, about ")
    assert model.reserved + model.weights_in_bytes() <= budget


def test_what_does_not_fit_is_refused_with_what_would(monkeypatch, host):
    with pytest.raises(InputError, match="needs about 26.8.* has 24.0 GB.*8-bit.*; or .*nf4"):
        planned(monkeypatch, host, 24e9)
    with pytest.raises(InputError, match="What would fit: load the model with quantization nf4"):
        planned(monkeypatch, host, 12e9)
    with pytest.raises(InputError, match="smaller pictures"):
        planned(monkeypatch, host, 6e9)


def test_weights_that_may_stay_out_leave_room_for_a_pass(monkeypatch, host, caplog):
    model = Streaming()
    assert planned(monkeypatch, host, 12e9, model) == (1, True)
    assert "a part of the weights stays in main memory" in caplog.text
    assert 3e9 < model.reserved < 4e9
    assert planned(monkeypatch, host, 26e9, Streaming()) == (1, False)
    with pytest.raises(InputError, match="smaller pictures"):
        planned(monkeypatch, host, 2e9, Streaming())


def test_the_users_own_number_is_kept_and_a_cpu_has_no_limit(monkeypatch, host):
    assert planned(monkeypatch, host, 30e9, images_at_once=2) == (2, False)
    assert planned(monkeypatch, host, None) == (12, False)


def test_a_network_that_cannot_be_copied_is_trained_all_the_same(host, bundled_model, caplog):
    rollout = small_training.scored(host, bundled_model)

    class Uncountable:
        def __getattr__(self, name):
            if name == "without_values":
                raise NotImplementedError("no kernel on the meta device")
            return getattr(bundled_model, name)

    config = TrainConfig(groups_per_step=2)
    assert memory.plan(host, Uncountable(), rollout, 4, config).images_at_once == 8
    assert "cannot be counted beforehand (NotImplementedError: no kernel" in caplog.text


def test_it_is_counted_in_the_inference_mode_of_comfyuis_nodes(host, bundled_model, caplog):
    with torch.inference_mode():
        rollout = small_training.scored(host, bundled_model)
        memory.plan(host, bundled_model, rollout, 4, TrainConfig(groups_per_step=2))
    assert "cannot be counted" not in caplog.text
    assert host.reports[-1][0].startswith("training, about ")


def wide(kind):
    torch.manual_seed(0)
    if kind == "flux":
        pipeline = tiny_models.flux_pipeline()
        pipeline.transformer = diffusers.FluxTransformer2DModel(
            num_layers=2, num_single_layers=4, attention_head_dim=64, num_attention_heads=4,
            axes_dims_rope=(8, 28, 28), joint_attention_dim=48, pooled_projection_dim=32,
            guidance_embeds=True,
        )  # fmt: skip
        return FluxModel(pipeline, {}, torch.device("cpu"))
    pipeline = tiny_models.sd3_pipeline()
    pipeline.transformer = diffusers.SD3Transformer2DModel(
        sample_size=64, num_layers=6, attention_head_dim=64, num_attention_heads=4,
        joint_attention_dim=72, caption_projection_dim=256, pooled_projection_dim=64,
        pos_embed_max_size=64, dual_attention_layers=(0, 1, 2), qk_norm="rms_norm",
    )  # fmt: skip
    return SD3Model(pipeline, {}, torch.device("cpu"))


@pytest.mark.parametrize("kind", ["flux", "sd3"])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("target", ["attention", "attention+mlp"])
def test_the_count_is_what_a_step_allocates(kind, checkpointed, target):
    model = wide(kind)
    cond = model.with_guidance(model.encode([Prompt("a red circle")]), 3.5)
    adapter, shape = AdapterConfig(8, 8.0, target), (16, 32, 32)
    x, sigma = seeded_noise([0, 1], shape), torch.full((2,), 0.5)
    with model.adapters(adapter) as parameters, model.checkpointed(checkpointed):
        frozen = [*model.transformer.parameters(), *model.transformer.buffers()]
        live = LiveBytes([*frozen, *parameters.values()])
        with live:
            velocity = model.velocity(x, sigma, cond.select([0, 0]))
            flow.velocity_error(velocity, x).mean().backward()
    twin = model.without_values()
    counted = counting.peak_of_step(twin, shape, 2, adapter, checkpointed, cond)
    assert 0.9 * live.peak < counted < 1.1 * live.peak
    assert not any(p.is_meta for p in model.transformer.parameters())
