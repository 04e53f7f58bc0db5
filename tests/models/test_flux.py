"""The FLUX.1 family: compared with diffusers' own pipeline on the same weights, and its adapters."""

import pytest
import tiny_models
import torch

from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.flux import FluxModel, pack, unpack
from gdro_comfy.rollouts.sample import guidance_of
from gdro_comfy.training.batches import Batch
from gdro_comfy.training.step import NoisyGroups

CPU = torch.device("cpu")
PROMPTS = [Prompt("a red circle"), Prompt("two blue square and a star")]
CONFIG = AdapterConfig(rank=4, alpha=8.0, target="attention+mlp")


def make(guidance_embeds=True):
    return FluxModel(tiny_models.flux_pipeline(guidance_embeds), {"pipeline": "tiny"}, CPU)


@pytest.fixture(scope="module")
def dev():
    return make()


@pytest.fixture(scope="module")
def schnell():
    return make(False)


def texts():
    return [prompt.text for prompt in PROMPTS]


def velocity(model, cond, guidance=3.5):
    x = seeded_noise([1, 2], (16, 8, 12))
    with torch.no_grad():
        return model.velocity(x, torch.tensor([0.3, 0.8]), model.with_guidance(cond, guidance))


BEFORE = {"pipeline": "of a version that did not record the length of text"}


@pytest.mark.parametrize(("kind", "tokens_before"), [("dev", 512), ("schnell", 256)])
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(("guidance", "size"), [(3.5, (64, 64)), (1.0, (96, 64))])
def test_sampling_equals_the_pipeline(kind, tokens_before, before, guidance, size, request):
    model = request.getfixturevalue(kind)
    assert model.text_tokens == 256
    if before:
        model = model.as_recorded(BEFORE)
        assert model.text_tokens == tokens_before
    width, height = size
    ours = model.sample(model.encode(PROMPTS), [11, 12], 5, guidance, size)
    noise = seeded_noise([11, 12], (16, height // 8, width // 8))
    theirs = model.pipeline(
        texts(),
        num_inference_steps=5,
        guidance_scale=guidance,
        height=height,
        width=width,
        latents=model.pipeline._pack_latents(noise, 2, 16, height // 8, width // 8),
        max_sequence_length=model.text_tokens,
        output_type="latent",
    ).images
    theirs = model.pipeline._unpack_latents(theirs, height, width, 8)
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_decoding_equals_the_pipeline(dev):
    latents = dev.sample(dev.encode(PROMPTS[:1]), [5], 2, 3.5, (64, 64))
    noise = dev.pipeline._pack_latents(seeded_noise([5], (16, 8, 8)), 1, 16, 8, 8)
    theirs = dev.pipeline(
        texts()[:1], num_inference_steps=2, guidance_scale=3.5, height=64, width=64, latents=noise,
        output_type="pt", max_sequence_length=256,
    ).images  # fmt: skip
    assert torch.allclose(dev.decode(latents), theirs.permute(0, 2, 3, 1), atol=1e-4)


def test_velocities_are_those_of_the_network(dev):
    cond = dev.encode(PROMPTS)
    x, sigma = seeded_noise([1, 2], (16, 8, 12)), torch.tensor([0.3, 0.8])
    pipeline = dev.pipeline
    with torch.no_grad():
        theirs = dev.transformer(
            hidden_states=pipeline._pack_latents(x, 2, 16, 8, 12),
            encoder_hidden_states=cond.tensors["hidden"],
            pooled_projections=cond.tensors["pooled"],
            timestep=sigma,
            guidance=torch.tensor([2.0, 2.0]),
            img_ids=pipeline._prepare_latent_image_ids(2, 4, 6, CPU, torch.float32),
            txt_ids=torch.zeros(256, 3),
        ).sample
    theirs = pipeline._unpack_latents(theirs, 64, 96, 8)
    assert torch.allclose(velocity(dev, cond, 2.0), theirs, atol=1e-5)


def test_unpack_undoes_pack():
    x = torch.randn(2, 16, 8, 12)
    assert pack(x).shape == (2, 24, 64)
    assert torch.equal(unpack(pack(x), 4, 6), x)


def test_the_guidance_reaches_a_network_that_takes_it(dev, schnell):
    cond = dev.encode(PROMPTS)
    assert not torch.allclose(velocity(dev, cond, 1.0), velocity(dev, cond, 3.5), atol=1e-3)
    with torch.no_grad():
        default = dev.velocity(seeded_noise([1, 2], (16, 8, 12)), torch.tensor([0.3, 0.8]), cond)
    assert torch.equal(default, velocity(dev, cond, 3.5))
    cond = schnell.encode(PROMPTS)
    assert torch.equal(velocity(schnell, cond, 1.0), velocity(schnell, cond, 3.5))


def test_training_takes_the_guidance_of_the_rollout(dev, host, monkeypatch):
    import numpy as np

    from gdro_comfy.data.prompts import from_text
    from gdro_comfy.data.rollout import Rollout
    from gdro_comfy.rollouts import sample as rollouts
    from gdro_comfy.training.config import TrainConfig
    from gdro_comfy.training.objectives import GDRO
    from gdro_comfy.training.train import train

    settings = rollouts.RolloutConfig(
        images_per_prompt=3, steps=1, guidance=2.25, width=64, height=64
    )
    rollout = rollouts.sample_rollout(
        host, dev, from_text("a red circle\ntwo blue square"), settings
    )
    monkeypatch.setattr(
        Rollout, "scores", lambda self: np.arange(6, dtype=np.float32).reshape(2, 3)
    )
    scales, inner = [], dev.velocity

    def watched(x, sigma, cond):
        if not x.is_meta:  # counted, not trained on
            scales.append(cond.tensors["guidance"])
        return inner(x, sigma, cond)

    monkeypatch.setattr(dev, "velocity", watched)
    config = TrainConfig(steps=1, groups_per_step=1, adapter=CONFIG, preview_every=0)
    train(host, dev, rollout, GDRO(group_size=3), config)
    assert scales
    assert all(torch.equal(scale, torch.full((3,), 2.25)) for scale in scales)


def test_adapters_sit_in_both_kinds_of_blocks_and_are_removed(dev):
    before = {name: p.clone() for name, p in dev.transformer.named_parameters()}
    cond = dev.encode(PROMPTS)
    base = velocity(dev, cond)
    with dev.adapters(CONFIG) as parameters:
        modules = {name.rpartition(".")[0] for name in parameters}
        assert "single_transformer_blocks.1.proj_mlp" in modules
        assert "single_transformer_blocks.1.proj_out" in modules
        assert "transformer_blocks.0.attn.add_k_proj" in modules
        assert "transformer_blocks.0.ff_context.net.2" in modules
        assert not any("norm" in name or name == "proj_out" for name in modules)
        assert torch.equal(velocity(dev, cond), base)
        with torch.no_grad():
            for p in parameters.values():
                p.add_(0.05)
        assert not torch.allclose(velocity(dev, cond), base, atol=1e-3)
        with dev.reference():
            assert torch.equal(velocity(dev, cond), base)
    with dev.adapters(AdapterConfig(4, 4.0, "attention")) as parameters:
        assert not any("proj_mlp" in name or ".ff" in name for name in parameters)
        assert any(name.startswith("single_") for name in parameters)
    after = dict(dev.transformer.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_an_adapter_on_a_half_precision_base_trains_in_float32():
    model = make()
    model.transformer.to(torch.bfloat16)
    model.dtype = torch.bfloat16
    cond = model.encode(PROMPTS).to("cpu", torch.bfloat16)
    with model.adapters(CONFIG) as parameters:
        assert {p.dtype for p in parameters.values()} == {torch.float32}
        v = model.velocity(seeded_noise([1, 2], (16, 8, 8)), torch.tensor([0.3, 0.8]), cond)
        v.float().pow(2).mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_latents_have_the_noise_that_a_half_precision_network_is_told(dtype, monkeypatch):
    model = make()
    model.transformer.to(dtype)
    model.dtype = dtype
    told = []
    embed = model.transformer.time_text_embed.forward

    def listen(timestep, *rest):
        told.append(timestep.float() / 1000)
        return embed(timestep, *rest)

    monkeypatch.setattr(model.transformer.time_text_embed, "forward", listen)
    sigma = torch.tensor([0.1234, 0.5017, 0.7777, 0.9991])
    x0, noise = torch.zeros(1, 4, 16, 4, 4), torch.ones(1, 4, 16, 4, 4)
    rows = torch.arange(4)
    batch = Batch(
        rows, rows * 0, rows[:, None], x0.transpose(0, 1), noise.transpose(0, 1), sigma,
        torch.zeros(4, 1),
    )  # fmt: skip
    cond = model.encode(PROMPTS[:1] * 4).to("cpu", dtype)
    groups = NoisyGroups.prepare(batch, model.with_guidance(cond, 3.5), model)
    with torch.no_grad():
        model.velocity(groups.x, groups.sigma, groups.conditioning)
    # Zeros mixed with ones: every latent is the sigma that it was mixed at.
    mixed = groups.x[:, 0, 0, 0]
    assert torch.allclose(mixed, told[0], atol=1e-7)
    assert (mixed - sigma).abs().max() > (1e-3 if dtype == torch.bfloat16 else 1e-5)


def test_the_guidance_0_is_the_models_own(dev, schnell, caplog):
    assert (guidance_of(dev, 0), guidance_of(schnell, 0), guidance_of(dev, 2.0)) == (3.5, 1.0, 2.0)
    assert not caplog.records
    assert guidance_of(dev, 1.0) == 1.0
    assert "made for about 3.5" in caplog.text


def test_a_folder_of_the_family_is_loaded_and_named(tmp_path):
    tiny_models.flux_pipeline().save_pretrained(tmp_path / "flux")
    with torch.inference_mode():
        model = loading.load(tmp_path / "flux", CPU)
    assert model.title == "FLUX.1"
    assert model.identity["pipeline"] == "FluxPipeline"
    assert model.architecture == "flux-1-dev"
    assert (model.size_multiple, model.default_size) == (16, (1024, 1024))
    assert not any(p.is_inference() for p in model.transformer.parameters())


def test_text_that_t5_cannot_read_or_would_cut_off_is_refused(dev):
    with pytest.raises(InputError, match="prompt 1 .*cannot read: 'cat'"):
        dev.check_prompts([Prompt("a red cat")])
    with pytest.raises(InputError, match="512, start and end included"):
        dev.check_prompts([Prompt("red " * 600)])
    dev.check_prompts([Prompt("red " * 100)])


def test_conditioning_keeps_its_guidance_when_it_is_selected(dev):
    cond = dev.with_guidance(BatchedConditioning({"pooled": torch.zeros(3, 2)}), 2.0)
    assert cond.select([0, 0, 2]).tensors["guidance"].tolist() == [2.0, 2.0, 2.0]
