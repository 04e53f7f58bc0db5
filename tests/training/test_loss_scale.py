"""float16 training: the scale keeps small gradients, gives way when they overflow, and is resumed."""

import pytest
import small_training
import torch

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models import flow, loading
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.training import trainer as trainers
from gdro_comfy.training.loss_scale import LossScale
from gdro_comfy.training.train import train


def test_other_dtypes_have_no_scale():
    for dtype in (torch.float32, torch.bfloat16):
        scale = LossScale(dtype)
        assert (scale.value, scale.update(False), scale.value) == (1.0, False, 1.0)


def test_an_overflow_halves_the_scale_down_to_one():
    scale = LossScale(torch.float16)
    assert scale.value == 2**14
    assert all(scale.update(False) for _ in range(14))
    assert scale.value == 1
    assert not scale.update(False), "nothing is left to mend"


def test_many_finite_steps_double_it_up_to_its_limit():
    scale = LossScale(torch.float16)
    for _ in range(500):
        scale.update(True)
    assert scale.value == 2**15
    for _ in range(5000):
        scale.update(True)
    assert scale.value == 2**16


def test_gradients_are_divided_by_it():
    parameter, frozen = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.full((2,), 2.0**15)
    LossScale(torch.float16).unscale([parameter, frozen])
    assert parameter.grad.tolist() == [2.0, 2.0]


@pytest.fixture(scope="module")
def half():
    """The bundled model in float16, on the CPU."""
    return loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"), "float16")


def gradients(model, scale):
    """Return the gradients of a loss as small as that of large pictures, scaled on their way."""
    x, sigma = seeded_noise([0, 1], (16, 16, 16)), torch.full((2,), 0.6)
    with torch.enable_grad(), model.active():
        cond = model.encode([Prompt("one red circle")] * 2)
        with model.adapters(AdapterConfig(8, 8.0, "attention+mlp")) as parameters:
            generator = torch.Generator().manual_seed(3)
            with torch.no_grad():
                for parameter in parameters.values():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
            velocity = model.velocity(x, sigma, cond)
            loss = 1e-3 * flow.velocity_error(velocity, torch.zeros_like(velocity)).mean()
            (loss * scale).backward()
            return torch.cat([p.grad.flatten() / scale for p in parameters.values()])


def test_small_gradients_survive(half, bundled_model):
    exact = gradients(bundled_model, 1.0)
    scaled, plain = (gradients(half, s) for s in (LossScale(torch.float16).value, 1.0))
    assert (scaled - exact).norm() < 0.01 * exact.norm()
    assert (plain - exact).norm() > 0.1 * exact.norm(), "this test would pass without a scale"


def test_a_training_in_float16_learns_and_resumes(host, half, tmp_path):
    rollout = small_training.scored(host, half)
    result = train(host, half, rollout, small_training.OBJECTIVE, small_training.config())
    assert all(row["grad_norm"] is not None for row in result.history())
    assert max(float(t.abs().max()) for k, t in result.tensors().items() if "lora_B" in k) > 0


def test_it_gives_up_only_at_a_scale_of_one(host, half, monkeypatch):
    monkeypatch.setattr(
        trainers.torch.nn.utils, "clip_grad_norm_", lambda *_: torch.tensor(torch.inf)
    )
    rollout = small_training.scored(host, half)
    config = small_training.config(steps=40, checkpoint_every=1000)
    with pytest.raises(InputError, match="not a finite number"):
        train(host, half, rollout, small_training.OBJECTIVE, config)
    [training] = rollout.run.folder.glob("train/*/history.jsonl")
    assert len(training.read_text().splitlines()) == 14 + 3 - 1
