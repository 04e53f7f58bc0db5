"""Layers that keep their weights as a file has them compute what a cast weight computes, to the bit."""

import pytest
import single_file_models as small
import tiny_models
import torch
from safetensors.torch import load_file
from torch import nn

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.models import single_files, stored_weights
from gdro_comfy.models.base import AdapterConfig, LoRAFile, seeded_noise
from gdro_comfy.models.stored_weights import Stored, StoredLinear, plain_state

CPU = torch.device("cpu")
FP8 = torch.float8_e4m3fn
SCALES = {
    "none": None,
    "whole": torch.tensor(0.3),
    "rows": torch.linspace(0.1, 2, 6)[:, None],
    "blocks": torch.linspace(0.1, 2, 12).view(6, 2),
}


def stored(kind):
    torch.manual_seed(1)
    return Stored(torch.randn(6, 8).to(FP8), SCALES[kind])


@pytest.mark.parametrize("kind", SCALES)
def test_a_layer_equals_one_with_its_weight_cast_once(kind):
    weight = stored(kind)
    bias = torch.randn(6).to(torch.bfloat16)
    layer = StoredLinear(weight, bias, torch.bfloat16)
    plain = nn.Linear(8, 6, dtype=torch.bfloat16)
    plain.weight, plain.bias = nn.Parameter(layer.weight), nn.Parameter(bias)
    inputs = [torch.randn(2, 3, 8).to(torch.bfloat16).requires_grad_() for _ in range(1)] * 2
    results = []
    for module, x in zip((layer, plain), inputs, strict=True):
        x.grad = None
        y = module(x)
        y.square().sum().backward()
        results.append((y.detach(), x.grad.clone()))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize("kind", SCALES)
def test_rows_can_be_split_like_those_of_a_plain_matrix(kind):
    weight = stored(kind)
    parts = torch.cat([part.contiguous().cast(torch.float32) for part in weight.split([1, 2, 3])])
    assert torch.equal(parts, weight.cast(torch.float32))
    factor = 1 if weight.scale is None else weight.scale
    if kind == "blocks":
        factor = factor.repeat_interleave(4, 1)
    assert torch.allclose(weight.cast(torch.float32), weight.values.float() * factor)


def test_autograd_keeps_the_stored_weight_and_not_the_cast_one():
    layer = StoredLinear(stored("rows"), None, torch.float32)
    kept = []

    def keep(tensor):
        kept.append(tensor.dtype)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(4, 8, requires_grad=True))
    assert FP8 in kept
    assert kept.count(torch.float32) == 1  # the scale; the input is not needed


def test_8_bits_are_off_by_half_a_step_of_each_row_at_most():
    weight = torch.randn(5, 64) * torch.tensor([1e-4, 1.0, 30.0, 0.0, 1e-30])[:, None]
    rounded = stored_weights.to_int8(weight)
    assert rounded.values.dtype == torch.int8
    step = weight.abs().amax(1, keepdim=True) / 127
    assert bool(((rounded.cast(torch.float32) - weight).abs() <= 0.501 * step).all())
    assert torch.equal(rounded.cast(torch.float32)[3], torch.zeros(64))


@pytest.fixture(scope="module")
def fp8_files(tmp_path_factory):
    """A small FLUX.1 whose transformer and T5 are in fp8."""
    folder = tmp_path_factory.mktemp("fp8")
    modules = {
        "transformer": small.flux_transformer(),
        "clip_l": small.clip(768, with_projection=False),
        "t5": small.t5(),
        "vae": tiny_models.vae(width=32, groups=32),
    }
    half = {k: v.to(FP8) for k, v in modules["transformer"].state_dict().items()}
    t5 = {k: v.to(FP8) for k, v in small.encoder(modules["t5"]).items()}
    vae = small.original_vae(modules["vae"])
    return small.write(
        folder, transformer=half, clip_l=small.encoder(modules["clip_l"]), t5=t5, vae=vae
    )


@pytest.fixture
def files_host(tmp_path):
    return small.FilesHost(tmp_path / "output")


def load(files_host, files, dtype=torch.bfloat16, changes=False):
    return single_files.load(files_host, files, CPU, dtype, changes)


def cast(model):
    """Cast all weights of a model for good, as a loader without ``stored_weights`` would."""
    for module in (model.transformer, model.pipeline.text_encoder, model.pipeline.text_encoder_2):
        for name, layer in list(module.named_modules()):
            if isinstance(layer, StoredLinear):
                plain = nn.Linear(layer.in_features, layer.out_features, bias=False)
                plain.weight = nn.Parameter(layer.weight, requires_grad=False)
                plain.bias = layer.bias
                parent, _, child = name.rpartition(".")
                setattr(module.get_submodule(parent), child, plain)
    return model


def trained(model):
    """Encode a prompt, and return the velocity and the gradients of a new adapter."""
    with model.active():
        cond = model.encode([Prompt("a red circle")])
        with model.adapters(AdapterConfig(2, 2.0, "attention+mlp"), 3) as parameters:
            x = seeded_noise([1], (16, 8, 8))
            v = model.velocity(x, torch.tensor([0.5]), cond)
            v.float().square().mean().backward()
            gradients = [p.grad for p in parameters.values() if p.grad is not None]
            return v.detach(), torch.cat([g.flatten() for g in gradients])


def test_an_fp8_file_keeps_its_size_and_encodes_and_trains_as_if_it_were_cast(
    fp8_files, files_host
):
    model = load(files_host, fp8_files)
    whole = cast(load(files_host, fp8_files))
    stored = model.weights_in_bytes()
    assert stored < 0.7 * whole.weights_in_bytes()  # embeddings are large in this one
    (v, gradients), (expected_v, expected_gradients) = trained(model), trained(whole)
    assert expected_gradients.abs().max() > 0
    assert torch.equal(v, expected_v)
    assert torch.equal(gradients, expected_gradients)
    exported, expected = model.network_weights(), whole.network_weights()
    assert exported.keys() == expected.keys()
    assert all(torch.equal(exported[name], expected[name]) for name in expected)


def test_a_lora_is_merged_into_an_fp8_file_as_into_a_cast_one(fp8_files, files_host, tmp_path):
    from safetensors.torch import save_file

    name = "transformer.transformer_blocks.0.attn.to_q"
    lora = {
        f"{name}.lora_A.weight": torch.randn(2, 128),
        f"{name}.lora_B.weight": torch.randn(128, 2),
    }
    save_file(lora, tmp_path / "lora.safetensors")
    loras = [LoRAFile(tmp_path / "lora.safetensors", 0.5)]
    model, whole = load(files_host, fp8_files, changes=True), cast(load(files_host, fp8_files))
    for each in (model, whole):
        each.prepare(files_host, loras)
    weights, expected = plain_state(model.transformer), whole.transformer.state_dict()
    changed = "transformer_blocks.0.attn.to_q.weight"
    assert not torch.equal(
        expected[changed], load_file(fp8_files["transformer"])[changed].bfloat16()
    )
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_t5_computes_in_float32_where_float16_would_overflow(fp8_files, files_host):
    encoder = load(files_host, fp8_files, torch.float16).pipeline.text_encoder_2
    dtypes = {
        name.rpartition(".")[2]: layer.dtype
        for name, layer in encoder.named_modules()
        if isinstance(layer, StoredLinear)
    }
    assert dtypes["wo"] == torch.float32
    assert dtypes["q"] == dtypes["wi_0"] == torch.float16


def test_apples_devices_which_have_no_fp8_get_cast_weights(fp8_files, files_host):
    model = single_files.load(files_host, fp8_files, torch.device("mps"), torch.bfloat16, True)
    parts = (model.transformer, model.pipeline.text_encoder, model.pipeline.text_encoder_2)
    dtypes = {p.dtype for part in parts for p in part.parameters()}
    assert dtypes == {torch.bfloat16, torch.float32}  # CLIP keeps the float32 of its file


def test_only_a_smaller_form_than_that_of_the_file_is_offered(fp8_files, files_host):
    stored, whole = load(files_host, fp8_files), cast(load(files_host, fp8_files))
    assert set(whole.quantizations) == {"8-bit", "nf4"}
    assert set(stored.quantizations) == {"nf4"}


def test_a_stored_layer_can_be_compiled():
    layer = StoredLinear(stored("rows"), None, torch.float32)
    x = torch.randn(3, 8, requires_grad=True)
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), layer(x))
    [one] = torch.autograd.grad(compiled(x).square().sum(), x)
    [other] = torch.autograd.grad(layer(x).square().sum(), x)
    assert torch.equal(one, other)
    torch._dynamo.reset()
