"""Rollouts, previews, drift and generation on a device that is too small for a whole batch."""

import numpy as np
import pytest
import torch

from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.data.prompts import from_text
from gdro_comfy.evaluation.drift import drift
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts.generate import generate
from gdro_comfy.rollouts.sample import RolloutConfig, encode_in_parts, sample_rollout

PROMPTS = from_text("one red circle\ntwo blue squares\nthree green stars")


class Small:
    """The bundled model on a device with room for so many images, or prompts, at once."""

    def __init__(self, model, room):
        self._model, self._room, self.most = model, room, {}

    def __getattr__(self, name):
        return getattr(self._model, name)

    def as_recorded(self, identity):
        return self

    def _check(self, name, count):
        if count > self._room[name]:
            raise torch.OutOfMemoryError(f"no room for {count}")
        self.most[name] = max(self.most.get(name, 0), count)

    def encode(self, prompts):
        self._check("encode", len(prompts))
        return self._model.encode(prompts)

    def sample(self, cond, seeds, *args, **kwargs):
        self._check("sample", len(seeds))
        return self._model.sample(cond, seeds, *args, **kwargs)

    def decode(self, latents):
        self._check("decode", len(latents))
        return self._model.decode(latents)

    def velocity(self, x, sigma, cond):
        self._check("velocity", len(x))
        return self._model.velocity(x, sigma, cond)


@pytest.fixture
def small(bundled_model):
    return Small(bundled_model, {"encode": 2, "sample": 3, "decode": 1, "velocity": 5})


def images(rollout):
    return [group.image(index) for group in rollout.groups() for index in range(4)]


def test_a_rollout_is_the_same_on_a_small_device(host, bundled_model, small):
    config = RolloutConfig(images_per_prompt=4, steps=2, run_name="whole")
    whole = sample_rollout(host, bundled_model, PROMPTS, config)
    config = RolloutConfig(images_per_prompt=4, steps=2, run_name="parts")
    parts = sample_rollout(host, small, PROMPTS, config)
    for one, other in zip(whole.groups(), parts.groups(), strict=True):
        torch.testing.assert_close(one.latents(), other.latents(), atol=1e-3, rtol=1e-3)
    for one, other in zip(images(whole), images(parts), strict=True):
        assert np.abs(np.asarray(one, int) - np.asarray(other, int)).max() <= 1
    assert small.most == {"encode": 1, "sample": 3, "decode": 1}


def test_prompts_encode_alike_in_parts(host, bundled_model, small):
    with bundled_model.active():
        whole = bundled_model.encode(PROMPTS.prompts)
        parts = encode_in_parts(host, small, PROMPTS.prompts)
    for name, tensor in whole.tensors.items():
        torch.testing.assert_close(parts.tensors[name], tensor.cpu(), atol=1e-5, rtol=1e-5)


def test_drift_and_generation_need_room_for_one(host, bundled_model, small):
    rollout = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(images_per_prompt=4, steps=2)
    )
    with bundled_model.adapters(AdapterConfig(4, 4.0)) as parameters:
        tensors = {name: torch.full_like(p, 0.02).detach() for name, p in parameters.items()}
    weights = LoRAWeights(tensors, 4, 4.0)
    whole = drift(host, bundled_model, rollout, weights, 1.0)
    assert whole > 0
    assert drift(host, small, rollout, weights, 1.0) == pytest.approx(whole, rel=1e-4)
    assert small.most["velocity"] <= 5
    settings = {"steps": 2, "guidance": 1.0}
    one = generate(host, bundled_model, "one red circle", 4, 7, **settings)
    other = generate(host, small, "one red circle", 4, 7, **settings)
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
