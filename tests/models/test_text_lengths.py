"""Prompts of several lengths in one batch, and runs from before their lengths were recorded."""

import pytest
import tiny_models
import torch
from small_reward import RednessReward

from gdro_comfy.data.conditioning import BatchedConditioning, Conditioning, StructuredConditioning
from gdro_comfy.data.prompts import Prompt, PromptSet
from gdro_comfy.evaluation.evaluate import EvaluationConfig, evaluate
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train

CPU = torch.device("cpu")
BEFORE = {"pipeline": "of a version that did not record the length of text"}
LONG = "a red circle " * 90
PROMPTS = [Prompt("one red circle"), Prompt(LONG), Prompt("two blue square"), Prompt(LONG[:-13])]


@pytest.fixture(scope="module")
def flux():
    return FluxModel(tiny_models.flux_pipeline(), {"pipeline": "FluxPipeline"}, CPU)


@pytest.fixture(scope="module")
def sd3():
    return SD3Model(tiny_models.sd3_pipeline(), {"pipeline": "StableDiffusion3Pipeline"}, CPU)


def tokens(cond):
    if isinstance(cond, BatchedConditioning):
        return [cond.tensors["hidden"].shape[1]] * len(cond)
    return [value["hidden"].shape[1] for value in cond.values]


def test_a_long_prompt_is_longer_and_leaves_the_others_as_they_are(flux):
    cond = flux.encode(PROMPTS)
    assert tokens(cond) == [256, 271, 256, 268]
    for index, prompt in enumerate(PROMPTS):
        alone = flux.encode([prompt])
        assert isinstance(alone, BatchedConditioning)
        both = cond.select([index]).values[0], alone.tensors
        for name in ("hidden", "pooled"):
            assert torch.allclose(both[0][name], both[1][name], atol=1e-6)


@pytest.mark.parametrize("kind", ["flux", "sd3"])
def test_velocities_of_several_lengths_are_those_of_each_alone(kind, request):
    model = request.getfixturevalue(kind)
    prompts = PROMPTS if kind == "flux" else [Prompt(p.text[:700]) for p in PROMPTS]
    cond = model.with_guidance(model.encode(prompts), 3.5)
    assert len(set(tokens(cond))) > 1
    x, sigma = seeded_noise(range(4), (16, 8, 8)), torch.tensor([0.1, 0.4, 0.7, 0.9])
    with model.adapters(AdapterConfig(2, 2.0)) as parameters:
        for number, parameter in enumerate(parameters.values()):
            torch.manual_seed(number)
            torch.nn.init.normal_(parameter, std=0.1)
        together = model.velocity(x, sigma, cond)
        alone = [model.velocity(x[i : i + 1], sigma[i : i + 1], cond.select([i])) for i in range(4)]
        assert torch.allclose(together, torch.cat(alone), atol=1e-5)
        of_all = torch.autograd.grad(together.square().sum(), [*parameters.values()])
        of_each = torch.autograd.grad(torch.cat(alone).square().sum(), [*parameters.values()])
        for one, other in zip(of_all, of_each, strict=True):
            assert torch.allclose(one, other, rtol=1e-3, atol=1e-5)


def test_a_negative_prompt_of_another_length_guides(sd3):
    cond, empty = sd3.encode([Prompt(LONG[:700])]), sd3.encode([Prompt("")])
    assert tokens(cond) != tokens(empty)
    x, sigma = seeded_noise([3], (16, 8, 8)), torch.tensor([0.6])
    with torch.no_grad():
        there, here = sd3.velocity(x, sigma, empty), sd3.velocity(x, sigma, cond)
        guided = sd3.velocity_field(cond, 4.5)(x, sigma)
    assert torch.allclose(guided, there + 4.5 * (here - there), atol=1e-4)
    assert not torch.allclose(here, there, atol=1e-3)


def test_lengths_survive_a_file_and_join(flux, tmp_path):
    cond = flux.encode(PROMPTS)
    cond.write(tmp_path / "c.safetensors")
    again = Conditioning.read(tmp_path / "c.safetensors")
    assert tokens(again) == tokens(cond)
    parts = [flux.encode([prompt]) for prompt in PROMPTS]
    for index, part in enumerate(parts):
        part.write(tmp_path / f"{index}.safetensors")
        parts[index] = Conditioning.read(tmp_path / f"{index}.safetensors")
    joined = Conditioning.cat(parts)
    assert isinstance(joined, StructuredConditioning)
    assert tokens(joined) == tokens(cond)
    same = Conditioning.cat([parts[0], parts[2]])
    assert isinstance(same, BatchedConditioning), "order in a file must not matter"


def test_only_a_record_without_lengths_changes_them(flux):
    before = flux.as_recorded(BEFORE)
    assert before.transformer is flux.transformer
    assert "text_tokens" not in before.identity
    assert (before.text_tokens, flux.text_tokens) == (512, 256)
    for record in ({}, flux.identity):
        assert flux.as_recorded(record) is flux
    assert before.as_recorded(BEFORE) is before


def rollout_of(host, model, name, *prompts):
    config = RolloutConfig(images_per_prompt=2, steps=1, run_name=name, width=64, height=64)
    rollout = sample_rollout(host, model, PromptSet(prompts, "some"), config)
    return score_rollout(host, rollout, RednessReward())


def test_a_run_of_the_version_before_keeps_its_lengths(flux, host):
    old = rollout_of(host, flux.as_recorded(BEFORE), "old", *PROMPTS[:1])
    again = rollout_of(host, flux, "old", *PROMPTS[:3])
    assert again.run.folder == old.run.folder
    assert [tokens(group.conditioning()) for group in again.groups()] == [[512]] * 3
    new = rollout_of(host, flux, "new", PROMPTS[0])
    assert tokens(new.groups()[0].conditioning()) == [256]
    assert new.base_identity["text_tokens"] == 256
    steps = TrainConfig(steps=1, adapter=AdapterConfig(2, 2.0), preview_every=0)
    lora = train(host, flux, again, GDRO(group_size=2), steps)
    assert "text_tokens" not in lora.model
    prompts = PromptSet([Prompt("one blue circle"), Prompt("two red circle")], "new")
    evaluate(
        host, flux, lora, prompts, RednessReward(),
        EvaluationConfig(images_per_prompt=1, steps=1, width=64, height=64),
    )  # fmt: skip
    lengths = [
        tokens(Conditioning.read(path))
        for path in lora.training.evaluations.rglob("conditioning.safetensors")
    ]
    assert lengths
    assert {length for (length,) in lengths} == {512}
    aligned = sample_rollout(
        host, flux, prompts,
        RolloutConfig(images_per_prompt=2, steps=1, run_name="a", width=64, height=64), lora,
    )  # fmt: skip
    assert tokens(aligned.groups()[0].conditioning()) == [512]
