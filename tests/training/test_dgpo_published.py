"""DGPO as published: a guided reference, several noise levels, new groups for each step, a slow average."""

import json
import math
from contextlib import nullcontext

import pytest
import torch
from recording_host import RecordingHost
from small_reward import RednessReward
from small_training import assert_same_lora, config, scored

from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.data.files import read_tensors
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.training.batches import GroupData
from gdro_comfy.training.objectives import DGPO
from gdro_comfy.training.online import Rounds
from gdro_comfy.training.step import Guidance, NoisyGroups, measure
from gdro_comfy.training.train import train

PUBLISHED = DGPO(clip=1e-3, sigma_min=0.5, reference_guidance=4.5, noise_levels=4)


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


class ByPrompt:
    """A network whose velocity is ``shift + x * prompt``, the shift that of an adapter."""

    def __init__(self) -> None:
        self.shift = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
        self.adapter = True

    def velocity(self, x, sigma, cond):
        factor = cond.tensors["prompt"].reshape(-1, 1, 1, 1)
        return x * factor + (self.shift if self.adapter else 0.0)

    def reference(self):
        model = self

        class Off(nullcontext):
            def __enter__(self):
                model.adapter = False

            def __exit__(self, *error):
                model.adapter = True

        return Off()


def one_pixel(*values):
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("images_at_once", [1, 2])
def test_the_guided_reference_by_hand(images_at_once):
    # Two images of a group, one latent each: x = 1 and 2, prompt 0.5, negative prompt 0.1, guidance 4.5.
    prompt = BatchedConditioning({"prompt": torch.full((2,), 0.5, dtype=torch.float64)})
    negative = BatchedConditioning({"prompt": torch.full((1,), 0.1, dtype=torch.float64)})
    sigma = torch.full((2,), 0.9, dtype=torch.float64)
    groups = NoisyGroups(one_pixel(1, 2), sigma, one_pixel(1, 1), prompt, 2)
    model = ByPrompt()
    signals, backward = measure(
        model, groups, images_at_once, reference_guidance=Guidance(4.5, negative)
    )
    # Reference: x (0.1 + 4.5 * 0.4) = 1.9 x, so 1.9 and 3.8; policy, without guidance: 0.75 and 1.25.
    assert signals.reference[0].tolist() == pytest.approx([0.9**2, 2.8**2], rel=1e-6)
    assert signals.errors[0].tolist() == pytest.approx([0.25**2, 0.25**2])
    assert signals.drift[0].tolist() == pytest.approx([1.15**2, 2.55**2], rel=1e-6)
    objective = DGPO(beta=0.2, kl=0.5, clip=0.0, reference_guidance=4.5)
    result = objective.loss(signals, objective.targets(torch.tensor([[1.0, 0.0]])))
    backward(result.loss)
    # A = 1, -1 (up to 1e-4 / .5); d = .0625 - .81, .0625 - 7.84; w = sigmoid(.2 (d1 - d2) / 2).
    a = 0.5 / (0.5 + 1e-4)
    w = 1 / (1 + math.exp(-0.2 * a * ((0.0625 - 0.81) - (0.0625 - 7.84)) / 2))
    drifts = (1.15**2 + 2.55**2) / 2
    assert result.loss.item() == pytest.approx(
        w * a * (0.0625 - 0.0625) / 2 + 0.5 * drifts, rel=1e-6
    )
    # Through e: 2 (v - 1) = -.5 and +.5; through the drift: 2 (v - v_ref) = -2.3 and -5.1.
    expected = w * a * (-0.5 - 0.5) / 2 + 0.5 * (-2.3 - 5.1) / 2
    assert model.shift.grad.item() == pytest.approx(expected, rel=1e-6)


def test_the_guided_reference_is_the_velocity_that_guided_sampling_follows(bundled_model):
    model = bundled_model
    prompt, negative = model.encode([Prompt("one red circle")]), model.encode_negative("")
    x, sigma = torch.randn(3, *model_shape(model)), torch.full((3,), 0.7)
    cond = prompt.select([0] * 3)
    groups = NoisyGroups(x, sigma, torch.zeros_like(x), cond, 3)
    with model.active(), torch.no_grad():
        guided = model.velocity_field(cond, 4.5)(x, sigma)
        signals, _ = measure(model, groups, 2, reference_guidance=Guidance(4.5, negative))
        plain, _ = measure(model, groups, 2)
    found = signals.reference.flatten()
    assert found.tolist() == pytest.approx(guided.pow(2).flatten(1).mean(1).tolist(), rel=1e-4)
    assert not torch.allclose(found, plain.reference.flatten(), rtol=1e-2)


def model_shape(model):
    side = model.default_size[0] // model.latent_downscale
    return model.latent_channels, side, side


def data(groups=5, images=6):
    generator = torch.Generator().manual_seed(1)
    return GroupData(
        torch.randn(groups, images, 4, 2, 2, generator=generator),
        torch.rand(groups, images, generator=generator),
        BatchedConditioning({"prompt": torch.zeros(groups, 1)}),
    )


def test_each_group_trains_at_one_level_of_every_quarter_of_the_range():
    batch = data().batch(0, 3, 2, PUBLISHED, "uniform", (0.6, 1.0))
    assert batch.groups.tolist() == [batch.groups[0]] * 4 + [batch.groups[4]] * 4
    assert batch.groups[0] != batch.groups[4]
    edges = [0.6, 0.7, 0.8, 0.9, 1.0]
    for group in batch.sigma.reshape(2, 4).tolist():
        assert all(low <= s <= high for low, s, high in zip(edges, group, edges[1:], strict=False))
    assert not torch.equal(batch.sigma[:4], batch.sigma[4:])
    # At a level, the images share their noise; every level has its own.
    assert torch.equal(batch.noise[0, 0], batch.noise[0, 5])
    assert not torch.equal(batch.noise[0, 0], batch.noise[1, 0])
    assert torch.equal(batch.x0[0], batch.x0[3])
    assert torch.equal(batch.rewards[0], batch.rewards[3])


def test_advantages_over_the_batch_do_not_depend_on_the_number_of_levels():
    one, four = (
        DGPO(advantage_scale="batch", noise_levels=levels).targets(
            data().batch(0, 0, 3, DGPO(noise_levels=levels)).rewards
        )
        for levels in (1, 4)
    )
    ordered = [sorted(row) for row in one.tolist()]
    assert [sorted(row) for row in four[::4].tolist()] == [pytest.approx(row) for row in ordered]


def test_what_an_earlier_version_recorded_is_recorded_still(bundled_model, host, rollout):
    result = train(host, bundled_model, rollout, DGPO(sigma_min=0.5), config(steps=1))
    record = json.loads((result.folder / "config.json").read_text(encoding="utf-8"))
    settings = {"beta", "kl", "clip", "sigma_min", "advantage_scale", "advantage_limit"}
    assert record["objective"].keys() == {"name", *settings}
    assert "ema_every" not in record["training"]
    assert PUBLISHED.record().keys() == {"name", *settings, "reference_guidance", "noise_levels"}


def test_the_average_moves_only_at_every_second_step_if_told_so(bundled_model, host, rollout):
    settings = config(steps=4, checkpoint_every=1, ema_decay=0.9, ema_every=2)
    states = []

    def emit(event, values):
        # The checkpoint is that of the step before.
        if event == "train_step" and values["step"] > 1:
            (path,) = (rollout.run.folder / "train").glob("*/checkpoint.safetensors")
            states.append(read_tensors(path))

    host.emit = emit
    result = train(host, bundled_model, rollout, DGPO(sigma_min=0.5), settings)
    states.append(read_tensors(result.folder / "checkpoint.safetensors"))
    first, second, third, fourth = states
    name = next(key for key in first if key.startswith("ema.") and key.endswith("lora_B"))
    weight = name.replace("ema.", "weight.")
    assert first[weight].abs().max() > 0
    assert first[name].abs().max() == 0
    # From 0, with decay (1 + 1) / (10 + 1) at step 2, and (1 + 3) / (10 + 3) at step 4.
    assert torch.allclose(second[name], 9 / 11 * second[weight], rtol=1e-5)
    assert torch.equal(third[name], second[name])
    moved = torch.lerp(third[name], fourth[weight], 9 / 13)
    assert torch.allclose(fourth[name], moved, rtol=1e-5)


def online(host, model, rollout, reward=None, **changes):
    settings = config(steps=3, **changes)
    rounds = Rounds(rounds=3, prompts_per_round=2, sampling_steps=2, weights="old")
    return train(host, model, rollout, PUBLISHED, settings, rounds, reward or RednessReward())


def test_every_step_has_new_groups_and_goes_on_after_a_cancel(bundled_model, tmp_path):
    whole_host = RecordingHost(tmp_path / "whole")
    whole = online(whole_host, bundled_model, scored(whole_host, bundled_model))
    assert [path.name for path in sorted((whole.folder / "rounds").iterdir())] == ["01", "02"]
    assert [row["images"] for row in whole.history()] == [2 * 4 * 4] * 3
    groups = scored(RecordingHost(tmp_path / "parts"), bundled_model)
    parts, stops = None, 0
    while parts is None:
        try:
            # A step is not saved before its end: each call may do a little more than the one before.
            host = RecordingHost(tmp_path / "parts", cancel_after=12 * (stops + 1))
            parts = online(host, bundled_model, groups)
        except Cancelled:
            stops += 1
    assert parts is not None
    assert stops >= 2
    assert_same_lora(whole, parts)


def test_one_round_that_teaches_nothing_does_not_end_the_training(bundled_model, host, rollout):
    class PleasedOnce(RednessReward):
        calls = 0

        def score(self, images, prompts, check_cancelled=lambda: None):
            found = super().score(images, prompts, check_cancelled)
            PleasedOnce.calls += 1
            if PleasedOnce.calls == 1:
                found.values[:] = 1.0
            return found

    result = online(host, bundled_model, rollout, PleasedOnce(scale=0.5))
    assert result.steps == 3
    assert PleasedOnce.calls == 2


def test_what_cannot_be_is_refused_before_any_work(bundled_model, host, rollout, monkeypatch):
    rounds = Rounds(rounds=3, weights="old")
    with pytest.raises(InputError, match=r"^weights: .* clip is 0"):
        train(host, bundled_model, rollout, DGPO(clip=0.0), config(), rounds, RednessReward())
    with pytest.raises(InputError, match=r"^ema_every: .* every 8 steps learns nothing in 6"):
        train(host, bundled_model, rollout, DGPO(), config(ema_every=8))
    monkeypatch.setattr(type(bundled_model), "encode_negative", lambda model, text: None)
    with pytest.raises(InputError, match="^reference_guidance: .* no classifier-free guidance"):
        train(host, bundled_model, rollout, PUBLISHED, config())
    assert not (rollout.run.folder / "train").exists()
