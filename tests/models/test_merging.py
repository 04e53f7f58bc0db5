"""LoRA files merged into the base: equal to the adapter, in every layout; and what is refused."""

import json

import pytest
import single_file_models as small
import tiny_models
import torch
from safetensors.torch import save_file

from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.lora import files, metadata
from gdro_comfy.models import original_layouts
from gdro_comfy.models.base import AdapterConfig, LoRAFile, seeded_noise
from gdro_comfy.models.flux import FluxModel
from gdro_comfy.models.sd3 import SD3Model
from gdro_comfy.stages import STAGES

FAMILIES = {"sd3": SD3Model, "flux": FluxModel}


def make(family):
    pipeline = tiny_models.sd3_pipeline() if family == "sd3" else tiny_models.flux_pipeline()
    return FAMILIES[family](pipeline, {"pipeline": family}, torch.device("cpu"))


def velocity(model):
    cond = model.with_guidance(model.encode([Prompt("one red circle")]), 2.0)
    with torch.no_grad():
        return model.velocity(seeded_noise([1], (16, 8, 8)), torch.tensor([0.6]), cond)


def random_lora(model, alpha=8.0):
    """A LoRA on attention and MLP, under the keys of our own files."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad(), model.adapters(AdapterConfig(4, alpha, "attention+mlp")) as parameters:
        for parameter in parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        return files.to_file_keys(LoRAWeights(parameters, 4, alpha))


def saved(tmp_path, tensors, name="style"):
    path = tmp_path / f"{name}.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


def kohya(tensors, unet="lora_unet_"):
    """The same tensors under the names that kohya's tools write."""
    renamed = {}
    for key, tensor in tensors.items():
        stem, _, end = key.removeprefix("transformer.").partition(".lora_")
        stem, end = (stem, f"lora_{end}") if end else stem.rsplit(".", 1)
        end = end.replace("lora_A", "lora_down").replace("lora_B", "lora_up")
        renamed[f"{unet}{stem.replace('.', '_')}.{end}"] = tensor
    return renamed


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_lora_equals_the_adapter_at_that_strength(host, tmp_path, family):
    model = make(family)
    tensors = random_lora(model)
    with model.with_lora(files.from_file_keys(tensors, "x"), 0.7):
        adapted = velocity(model)
    base = velocity(model)
    model.prepare(host, [LoRAFile(saved(tmp_path, tensors), 0.7)])
    assert (velocity(model) - base).abs().max() > 0.01
    assert (velocity(model) - adapted).abs().max() < 1e-5


LAYOUTS = {
    "kohya": kohya,
    "onetrainer": lambda tensors: kohya(tensors, "lora_transformer_"),
    "peft": lambda t: {k.replace("transformer.", "base_model.model.", 1): v for k, v in t.items()},
    "bare": lambda t: {k.removeprefix("transformer."): v for k, v in t.items()},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_of_a_lora_gives_the_same_model(host, tmp_path, layout):
    ours, theirs = make("sd3"), make("sd3")
    tensors = random_lora(ours)
    ours.prepare(host, [LoRAFile(saved(tmp_path, tensors, "ours"), 1.0)])
    text = {"lora_te1_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 2)}
    renamed = LAYOUTS[layout](tensors) | (text if layout == "kohya" else {})
    theirs.prepare(host, [LoRAFile(saved(tmp_path, renamed, "theirs"), 1.0)])
    assert torch.equal(velocity(ours), velocity(theirs))


@pytest.mark.parametrize(("before", "flat"), [("lora_unet_", True), ("diffusion_model.", False)])
@pytest.mark.parametrize("family", FAMILIES)
def test_layers_with_original_names_change_the_modules_they_belong_to(
    host, tmp_path, family, before, flat
):
    """Query, key and value in one layer, and shift and scale in the original's order."""
    model = make(family)
    names, generator = model.original_names(), torch.Generator().manual_seed(5)
    weights = small.original(model.transformer, names)
    tensors, expected = {}, dict(weights)
    for key, weight in weights.items():
        stem = key.removesuffix(".weight")
        if stem == key or weight.ndim != 2 or stem not in names:
            continue
        down = torch.randn(2, weight.shape[1], generator=generator) * 0.1
        up = torch.randn(len(weight), 2, generator=generator) * 0.1
        name = before + (stem.replace(".", "_") if flat else stem)
        ends = ("lora_down", "lora_up") if flat else ("lora_A", "lora_B")
        tensors |= {f"{name}.{ends[0]}.weight": down, f"{name}.{ends[1]}.weight": up}
        expected[key] = weight + 0.5 * up @ down
    shapes = {name: tensor.shape for name, tensor in model.transformer.state_dict().items()}
    merged = original_layouts.convert(expected, expected.get, names, shapes)
    model.prepare(host, [LoRAFile(saved(tmp_path, tensors), 0.5)])
    weights = model.transformer.state_dict()
    assert max((weights[name] - merged[name]).abs().max() for name in merged) < 1e-6


LAYER = "transformer_blocks.0.attn.to_q"


def test_a_convolution_is_changed_as_a_matrix(host, tmp_path):
    model = make("sd3")
    before = model.transformer.pos_embed.proj.weight
    generator = torch.Generator().manual_seed(2)
    down = torch.randn(2, *before.shape[1:], generator=generator)
    up = torch.randn(len(before), 2, 1, 1, generator=generator)
    name = "lora_unet_x_embedder_proj"
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    model.prepare(host, [LoRAFile(saved(tmp_path, tensors), 1.0)])
    expected = torch.einsum("or,rihw->oihw", up.flatten(1), down)
    weight = model.transformer.pos_embed.proj.weight
    assert torch.allclose(weight - before, expected, atol=1e-5)


def test_a_lora_whose_header_names_another_base_is_refused(host, tmp_path):
    for base, title in (("flux-1-kontext/lora", "FLUX.1 Kontext"), ("chroma/lora", "Chroma")):
        path = tmp_path / "style.safetensors"
        save_file(layer(f"transformer.{LAYER}"), path, {"modelspec.architecture": base})
        with pytest.raises(InputError, match=f"is a LoRA for {title}"):
            make("flux").prepare(host, [LoRAFile(path, 1.0)])


def test_a_scale_from_beside_the_file_is_part_of_the_bases_identity(host, tmp_path):
    path = saved(tmp_path, layer(f"transformer.{LAYER}"), "adapter_model")
    identities, merged = [], []
    for alpha in (None, 8, 16):
        if alpha:
            config = json.dumps({"r": 4, "lora_alpha": alpha})
            (tmp_path / "adapter_config.json").write_text(config)
        model = make("sd3")
        model.prepare(host, [LoRAFile(path, 1.0)])
        identities.append(json.dumps(model.identity))
        merged.append(model.merged[0])
    assert len(set(identities)) == 3
    assert merged[1].endswith("at strength 1 (scale 2 from adapter_config.json)")


def test_a_sum_beyond_the_range_of_the_weights_is_refused(host, tmp_path):
    model = make("sd3")
    model.transformer.half()
    huge = {key: tensor * 1e4 for key, tensor in layer(f"transformer.{LAYER}").items()}
    with pytest.raises(InputError, match="beyond the range of torch.float16"):
        model.prepare(host, [LoRAFile(saved(tmp_path, huge), 1.0)])


def layer(name, rows=32, columns=32, down="lora_A", up="lora_B"):
    return {
        f"{name}.{down}.weight": torch.ones(4, columns),
        f"{name}.{up}.weight": torch.ones(rows, 4),
    }


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (layer("lora_unet_single_blocks_0_linear2", down="lora_down", up="lora_up"),
         r"style.safetensors is a LoRA for FLUX\.1, this model is Stable Diffusion 3"),
        (layer("lora_unet_down_blocks_1_attentions_0_proj_in", down="lora_down", up="lora_up"),
         "is a LoRA for Stable Diffusion 1, 2 or XL"),
        (layer(f"transformer.{LAYER}", rows=1536, columns=1536), "another size .*1536 x 1536 there"),
        (layer("transformer.transformer_blocks.23.attn.to_q"), "changes 1 layers that this model"),
        ({f"{LAYER}.hada_w1_a": torch.ones(2, 2)}, "is a LoHa, which cannot be merged"),
        ({**layer(LAYER), f"{LAYER}.dora_scale": torch.ones(2)}, "is a DoRA"),
        ({f"{LAYER}.lora_A.weight": torch.ones(2, 32)}, "its layers are incomplete"),
        ({"encoder.weight": torch.ones(2, 2)}, "'encoder.weight', which does not belong to a plain LoRA"),
        (layer("lora_te1_text_model_encoder_layers_0_mlp_fc1"), "not a LoRA for an image model"),
        (layer(f"transformer.{LAYER}") | layer(f"diffusion_model.{LAYER}"), "gives one layer twice"),
        (layer("lora_unet_joint_blocks_0_x_block_attn_qkv", rows=96, down="lora_down", up="lora_up")
         | layer("lora_unet_transformer_blocks_0_attn_to_q", down="lora_down", up="lora_up"),
         "gives one layer twice"),
        (layer("transformer_blocks.0.img_mod.1"), "is a LoRA for Qwen-Image"),
        (layer("diffusion_model.layers.0.attention.to_q"), "is a LoRA for Lumina or Z-Image"),
        (layer("transformer.double_blocks.0.img_attn_qkv"), "is a LoRA for HunyuanVideo"),
    ],
)  # fmt: skip
def test_a_lora_that_does_not_fit_is_refused_and_changes_nothing(host, tmp_path, tensors, message):
    model = make("sd3")
    before = velocity(model)
    with pytest.raises(InputError, match=f"lora_2: .*{message}"):
        model.prepare(host, [LoRAFile(saved(tmp_path, tensors), 1.0, "lora_2")])
    assert torch.equal(velocity(model), before)
    assert "loras" not in model.identity


def load(host, **loras):
    source = {"source": "bundled", "model": "tiny SD3"}
    [model] = STAGES["GDRO_LoadBaseModel"](host, source=source, dtype="auto", loras=loras)
    return model


BUNDLED = "bundled: signs (tiny SD3)"


def test_the_node_merges_the_chosen_loras_into_a_model_with_another_identity(host, bundled_model):
    styled = load(host, loras="two", lora_1=BUNDLED, strength_1=1.0, lora_2="?", strength_2=0.0)
    weights = files.load(files.BUNDLED[BUNDLED])
    cond = bundled_model.encode([Prompt('a green sign that says "FOX"')])
    with bundled_model.active(), bundled_model.with_lora(weights):
        adapted = bundled_model.sample(cond, [1], 4, 1.0, (64, 64))
    with styled.active():
        assert (styled.sample(cond, [1], 4, 1.0, (64, 64)) - adapted).abs().max() < 1e-4
    weaker = load(host, loras="one", lora_1=BUNDLED, strength_1=0.5)
    identities = [json.dumps(m.identity) for m in (bundled_model, styled, weaker)]
    assert len(set(identities)) == 3


def test_the_header_of_a_lora_trained_on_it_names_the_merged_lora(host):
    record = {
        "training": {"adapter": {"rank": 4, "alpha": 4.0}, "steps": 1, "learning_rate": 1e-3, "seed": 0},
        "rollout": {"size": [64, 64]}, "objective": {"name": "GDRO"}, "reward": "ocr-1", "prompts": "x",
    }  # fmt: skip
    styled = load(host, loras="one", lora_1=BUNDLED, strength_1=0.5)
    fields = metadata.header("mine", styled, record)
    assert fields["gdro.merged"] == "tiny_sd3_signs.safetensors at strength 0.5"
    assert "with tiny_sd3_signs.safetensors at strength 0.5" in fields["modelspec.usage_hint"]
    assert json.loads(fields["gdro.base"]) == json.loads(json.dumps(styled.identity))


@pytest.mark.parametrize(
    ("name", "message"),
    [("choose a file", "lora_1: no file is chosen"), ("x.safetensors", "'x.safetensors' is not among")],
)  # fmt: skip
def test_a_missing_lora_is_refused_before_anything_is_loaded(host, name, message):
    with pytest.raises(InputError, match=message):
        load(host, loras="one", lora_1=name, strength_1=1.0)
