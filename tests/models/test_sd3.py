"""The SD3 family: compared with diffusers' own pipeline on the same weights, and its adapters."""

import pytest
import torch

from gdro_comfy.data.conditioning import BatchedConditioning, Conditioning
from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models.base import AdapterConfig, seeded_noise

PROMPTS = [Prompt("two red circles left of one blue square"), Prompt("one green star")]
CONFIG = AdapterConfig(rank=4, alpha=8.0, target="attention+mlp")


@pytest.fixture
def model(bundled_model):
    return bundled_model


def snapshot(model):
    return {name: p.clone() for name, p in model.transformer.named_parameters()}


def velocity(model, cond):
    x = seeded_noise([1, 2], (16, 8, 8))
    with torch.no_grad():
        return model.velocity(x, torch.tensor([0.3, 0.8]), cond)


def nudge(parameters, seed=0):
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in parameters.values():
            p.add_(torch.randn(p.shape, generator=g) * 0.05)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_equals_the_pipeline(model, guidance):
    cond = model.encode(PROMPTS)
    ours = model.sample(cond, [11, 12], 6, guidance, (64, 64))
    theirs = model.pipeline(
        [prompt.text for prompt in PROMPTS],
        num_inference_steps=6,
        guidance_scale=guidance,
        height=64,
        width=64,
        latents=seeded_noise([11, 12], (16, 8, 8)),
        max_sequence_length=0,
        output_type="latent",
    ).images
    assert torch.allclose(ours, theirs, atol=1e-4)


def test_decoding_equals_the_pipeline(model):
    cond = model.encode(PROMPTS[:1])
    latents = model.sample(cond, [5], 4, 1.0, (64, 64))
    theirs = model.pipeline(
        PROMPTS[0].text,
        num_inference_steps=4,
        guidance_scale=1.0,
        height=64,
        width=64,
        latents=seeded_noise([5], (16, 8, 8)),
        max_sequence_length=0,
        output_type="pt",
    ).images
    assert torch.allclose(model.decode(latents), theirs.permute(0, 2, 3, 1), atol=1e-4)


def test_an_image_survives_encoding_and_decoding(model):
    image = model.decode(model.sample(model.encode(PROMPTS[:1]), [5], 8, 1.0, (64, 64)))
    again = model.decode(model.encode_images(image))
    assert (again - image).pow(2).mean() < 0.003


def test_an_image_does_not_depend_on_its_neighbours(model):
    cond = model.encode(PROMPTS)
    together = model.sample(cond, [3, 4], 4, 1.0, (64, 64))
    alone = model.sample(cond.select([1]), [4], 4, 1.0, (64, 64))
    assert torch.allclose(together[1:], alone, atol=1e-4)


def test_other_sizes_work(model):
    latents = model.sample(model.encode(PROMPTS[:1]), [0], 2, 1.0, (96, 64))
    assert model.decode(latents).shape == (1, 64, 96, 3)


def test_a_new_adapter_changes_nothing(model):
    cond = model.encode(PROMPTS)
    before = velocity(model, cond)
    with model.adapters(CONFIG) as parameters:
        assert torch.equal(velocity(model, cond), before)
        assert all(p.requires_grad for p in parameters.values())


def test_the_reference_is_the_base_while_the_adapter_differs(model):
    cond = model.encode(PROMPTS)
    before = velocity(model, cond)
    with model.adapters(CONFIG) as parameters:
        nudge(parameters)
        assert not torch.allclose(velocity(model, cond), before, atol=1e-3)
        with model.reference():
            assert torch.equal(velocity(model, cond), before)
        assert not torch.allclose(velocity(model, cond), before, atol=1e-3)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(model, fails):
    before, names = snapshot(model), [n for n, _ in model.transformer.named_modules()]
    try:
        with model.adapters(CONFIG) as parameters:
            nudge(parameters)
            if fails:
                raise RuntimeError("in the middle")
    except RuntimeError:
        assert fails
    after = dict(model.transformer.named_parameters())
    assert [n for n, _ in model.transformer.named_modules()] == names
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not any(p.requires_grad for p in after.values())


def test_adapters_depend_on_their_seed_and_leave_the_global_generator_alone(model):
    def first(seed):
        with model.adapters(CONFIG, seed) as parameters:
            return next(iter(parameters.values())).detach().clone()

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, two, again = first(1), first(2), first(1)
    assert torch.equal(one, again)
    assert not torch.equal(one, two)
    assert torch.equal(torch.rand(1), expected)


def test_a_finished_lora_gives_the_velocity_of_its_adapter(model):
    cond = model.encode(PROMPTS)
    with model.adapters(CONFIG) as parameters:
        nudge(parameters)
        trained = velocity(model, cond)
        tensors = {name: p.detach().clone() for name, p in parameters.items()}
    weights = LoRAWeights(tensors, CONFIG.rank, CONFIG.alpha)
    with model.with_lora(weights):
        assert torch.allclose(velocity(model, cond), trained, atol=1e-5)
    base = velocity(model, cond)
    with model.with_lora(weights, 0.0):
        assert torch.allclose(velocity(model, cond), base, atol=1e-6)


def test_weights_take_gradients_after_loading_in_inference_mode():
    from gdro_comfy.models import loading

    with torch.inference_mode():
        folder = loading.bundled_folder("tiny SD3")
        model = loading.load(folder, torch.device("cpu"))
        cond = model.encode(PROMPTS)
    assert not any(p.is_inference() for p in model.transformer.parameters())
    assert not any(t.is_inference() for t in cond.tensors.values())


@pytest.mark.parametrize("text", ["一只猫", "🐈"])
def test_text_that_the_tokenizer_cannot_read_is_named(model, text):
    with pytest.raises(InputError, match="prompt 1 .*cannot read"):
        model.check_prompts([Prompt(text)])


def test_a_prompt_that_would_be_cut_off_is_refused(model):
    with pytest.raises(InputError, match="16, start and end included"):
        model.check_prompts([Prompt("one red circle and " * 5 + "one star")])


def test_conditioning_selects_and_joins():
    one = BatchedConditioning({"a": torch.tensor([[1.0], [2.0]])})
    selected = one.select([1, 1, 0])
    assert selected.tensors["a"].flatten().tolist() == [2.0, 2.0, 1.0]
    assert len(Conditioning.cat([one, selected])) == 5


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("with_t5", [True, False])
@pytest.mark.parametrize("guidance", [1.0, 4.5])
@pytest.mark.parametrize("before", [False, True])
def test_sd35_with_or_without_t5_and_with_either_shift_equals_the_pipeline(
    dynamic, with_t5, guidance, before
):
    import tiny_models

    from gdro_comfy.models.sd3 import SD3Model

    pipeline = tiny_models.sd3_pipeline(dynamic, with_t5)
    model = SD3Model(pipeline, {"pipeline": "tiny"}, torch.device("cpu"))
    prompts = [Prompt("a red circle"), Prompt("two blue square")]
    if before:
        model = model.as_recorded(
            {"pipeline": "of a version that did not record the length of text"}
        )
    theirs = pipeline(
        [prompt.text for prompt in prompts],
        num_inference_steps=4,
        guidance_scale=guidance,
        height=64,
        width=96,
        latents=seeded_noise([11, 12], (16, 8, 12)),
        max_sequence_length=256 if before else 77 if with_t5 else 0,
        output_type="latent",
    ).images
    ours = model.sample(model.encode(prompts), [11, 12], 4, guidance, (96, 64))
    assert torch.allclose(ours, theirs, atol=1e-4)
    with model.adapters(CONFIG) as parameters:
        assert any(".attn2.to_q." in name for name in parameters)
