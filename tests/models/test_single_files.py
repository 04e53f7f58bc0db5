"""Models from ComfyUI's single files, and every wrong file that a user can choose."""

import json
import struct

import pytest
import single_file_models as small
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.models import files, original_layouts, single_files
from gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_comfy.models.stored_weights import plain_state

CPU = torch.device("cpu")
PROMPTS = [Prompt("a red circle"), Prompt("two blue square")]


@pytest.fixture(scope="module")
def flux(tmp_path_factory):
    """A FLUX.1-dev: its modules, and its files in the original layouts."""
    modules = {
        "transformer": small.flux_transformer(),
        "clip_l": small.clip(768, False),
        "t5": small.t5(),
        "vae": tiny_models.vae(32, 32),
    }
    names = original_layouts.flux_names(2, 2)
    paths = small.write(
        tmp_path_factory.mktemp("flux"),
        transformer=small.original(modules["transformer"], names),
        clip_l=small.encoder(modules["clip_l"]),
        t5=small.encoder(modules["t5"]),
        vae=small.original_vae(modules["vae"]),
    )
    return modules, paths


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    """An SD3.5-medium, likewise."""
    modules = {
        "transformer": small.sd3_transformer(),
        "clip_l": small.clip(768, True),
        "clip_g": small.clip(1280, True),
        "vae": tiny_models.vae(32, 32),
    }
    clip_l = small.encoder(modules["clip_l"])
    clip_l.pop("text_projection.weight")
    paths = small.write(
        tmp_path_factory.mktemp("sd3"),
        transformer=small.original(modules["transformer"], original_layouts.sd3_names(3)),
        clip_l=clip_l,
        clip_g=small.encoder(modules["clip_g"]),
        vae=small.original_vae(modules["vae"]),
    )
    return modules, paths


@pytest.fixture
def files_host(tmp_path):
    return small.FilesHost(tmp_path / "output")


def load(host, paths, dtype=torch.float32):
    with torch.inference_mode():
        return single_files.load(host, paths, CPU, dtype)


def assert_same(module, other):
    weights, others = plain_state(module), plain_state(other)
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)


def test_flux_from_single_files_equals_the_original_modules(flux, files_host):
    modules, paths = flux
    model = load(files_host, paths)
    assert_same(model.transformer, modules["transformer"])
    assert_same(model.pipeline.text_encoder, modules["clip_l"])
    assert_same(model.pipeline.text_encoder_2, modules["t5"])
    assert_same(model.vae, modules["vae"])
    assert dict(model.transformer.config)["axes_dims_rope"] == (16, 56, 56)
    assert (model.vae.config.scaling_factor, model.vae.config.shift_factor) == (0.3611, 0.1159)
    assert model.pipeline.scheduler.config.use_dynamic_shifting
    assert model.title == "FLUX.1"
    latents = model.sample(model.encode(PROMPTS), [1, 2], 2, 3.5, (64, 64))
    assert model.decode(latents).shape == (2, 64, 64, 3)
    with model.adapters(AdapterConfig(2, 2.0)) as parameters:
        x, sigma = seeded_noise([1, 2], (16, 8, 8)), torch.tensor([0.2, 0.7])
        model.velocity(x, sigma, model.encode(PROMPTS)).pow(2).mean().backward()
        assert any(p.grad.abs().sum() > 0 for p in parameters.values())


def test_sd3_from_single_files_equals_the_original_modules(sd3, files_host):
    modules, paths = sd3
    model = load(files_host, paths)
    assert_same(model.transformer, modules["transformer"])
    assert_same(model.pipeline.text_encoder_2, modules["clip_g"])
    assert_same(model.vae, modules["vae"])
    assert model.pipeline.text_encoder_3 is None
    # SD3 reads the summary of CLIP-L without a projection.
    projection = model.pipeline.text_encoder.text_projection.weight
    assert torch.equal(projection, torch.eye(768))
    assert model.vae.config.scaling_factor == 1.5305
    cond = model.encode(PROMPTS)
    assert cond.tensors["hidden"].shape == (2, 16, 4096)
    assert model.sample(cond, [1, 2], 2, 3.0, (64, 64)).shape == (2, 16, 8, 8)


def test_sd3_has_t5_if_it_is_chosen(sd3, flux, files_host):
    model = load(files_host, {**sd3[1], "t5": flux[1]["t5"]})
    assert_same(model.pipeline.text_encoder_3, flux[0]["t5"])


def test_diffusers_layout_and_original_give_the_same_model(flux, sd3, files_host, tmp_path):
    for modules, paths in (flux, sd3):
        state = modules["transformer"].state_dict()
        vae = modules["vae"].state_dict()
        other = {**paths, **small.write(tmp_path, transformer=state, vae=vae)}
        assert files.read(other["transformer"], "x").parts[0].layout == "diffusers"
        model = load(files_host, other)
        assert_same(model.transformer, modules["transformer"])
        assert_same(model.vae, modules["vae"])


def test_an_all_in_one_checkpoint_is_enough(flux, files_host, tmp_path):
    modules, paths = flux
    loaded = {name: load_file(path) for name, path in paths.items()}
    whole = {
        **small.prefixed(loaded["transformer"], "model.diffusion_model."),
        **small.prefixed(loaded["vae"], "first_stage_model."),
        **small.prefixed(loaded["clip_l"], "text_encoders.clip_l.transformer."),
        **small.prefixed(loaded["t5"], "text_encoders.t5xxl.transformer."),
    }
    path = small.write(tmp_path, all_in_one=whole)["all_in_one"]
    file = files.read(path, "x")
    assert file.kind == "checkpoint"
    assert "FLUX.1 transformer" in file.title
    assert "T5-XXL" in file.title
    model = load(files_host, {"transformer": path})
    assert_same(model.transformer, modules["transformer"])
    assert_same(model.pipeline.text_encoder_2, modules["t5"])


def test_fp8_files_are_loaded_in_a_dtype_that_trains(flux, files_host, tmp_path):
    modules, paths = flux
    fp8 = torch.float8_e4m3fn
    plain = {k: t.to(fp8) for k, t in load_file(paths["t5"]).items()}
    scaled = {}
    for key, tensor in load_file(paths["transformer"]).items():
        scaled[key] = tensor
        if key.endswith("linear1.weight"):
            scale = tensor.abs().max() / 400
            scaled[key] = (tensor / scale).to(fp8)
            scaled[key.replace(".weight", ".scale_weight")] = scale
    scaled["scaled_fp8"] = torch.empty(0, dtype=fp8)
    other = small.write(tmp_path, t5=plain, transformer=scaled)
    file = files.read(other["t5"], "x")
    assert file.dtype(file.parts[0]) == "fp8"
    model = load(files_host, {**paths, **other}, torch.bfloat16)
    for module in (model.transformer, model.pipeline.text_encoder_2):
        dtypes = {p.dtype for p in module.parameters() if p.dtype != torch.float8_e4m3fn}
        assert dtypes - {torch.float32} == {torch.bfloat16}  # scales are float32
        assert module.dtype == torch.bfloat16
    name = "single_transformer_blocks.0.proj_mlp.weight"
    weight = plain_state(model.transformer)[name].float()
    original = modules["transformer"].state_dict()[name]
    assert (weight - original).norm() / original.norm() < 0.05


def test_conversion_equals_that_of_diffusers():
    from diffusers.loaders import single_file_utils

    def rows(*shape):
        """A tensor with another number in each row, at no cost in memory."""
        return torch.arange(1.0, shape[0] + 1).view(-1, *(1,) * (len(shape) - 1)).expand(shape)

    model = small.sd3_transformer()
    state = small.original(model, original_layouts.sd3_names(3))
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    ours = original_layouts.convert(state, state.get, original_layouts.sd3_names(3), shapes)
    theirs = single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers(dict(state))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)

    from accelerate import init_empty_weights
    from diffusers import FluxTransformer2DModel

    with init_empty_weights():
        model = FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    names = original_layouts.flux_names(1, 1)
    state = {}
    for old, modules in names.items():
        for end in ("weight", "bias"):
            keys = [f"{m.removeprefix(original_layouts.SWAPPED)}.{end}" for m in modules]
            if all(key in shapes for key in keys):
                total = sum(shapes[key][0] for key in keys)
                suffix = "scale" if "query_norm" in old or "key_norm" in old else end
                state[f"{old}.{suffix}"] = rows(total, *shapes[keys[0]][1:])
    ours = original_layouts.convert(state, state.get, names, shapes)
    theirs = single_file_utils.convert_flux_transformer_checkpoint_to_diffusers(dict(state))
    assert ours.keys() == theirs.keys() == shapes.keys()
    for key in ours:
        assert ours[key].shape == theirs[key].shape == shapes[key]
        first = tuple([slice(None)] + [0] * (ours[key].ndim - 1))
        assert torch.equal(ours[key][first], theirs[key][first]), key


WRONG_FILES = [
    ("clip_l", "t5", r"clip_l: t5\.safetensors is a T5-XXL text encoder.* Choose this file at t5"),
    ("vae", "clip_l", r"vae: clip_l\.safetensors is a CLIP-L text encoder.*wants the family's VAE"),
    ("transformer", "vae", r"transformer: vae\.safetensors is a VAE of 16 channels .* at vae"),
    (
        "t5",
        "transformer",
        r"t5: transformer\.safetensors is a FLUX\.1 transformer.* at transformer",
    ),
]


@pytest.mark.parametrize(("input_name", "file", "message"), WRONG_FILES)
def test_a_wrong_file_is_named_with_the_input_it_belongs_to(flux, input_name, file, message):
    paths = {**flux[1], input_name: flux[1][file]}
    with pytest.raises(InputError, match=message) as caught:
        single_files.choose(paths)
    assert caught.value.input_name == input_name


FOREIGN = {
    "a Wan transformer": {"blocks.0.self_attn.q.weight": (8, 8), "patch_embedding.weight": (8, 8)},
    "an SDXL model": {
        "model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3),
        "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight": (9, 768),
        "first_stage_model.decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3),
        "first_stage_model.decoder.conv_in.weight": (8, 4, 3, 3),
    },
    "a VAE of 4 channels": {
        "decoder.up.0.block.0.conv1.weight": (8, 8, 3, 3),
        "decoder.conv_in.weight": (8, 4, 3, 3),
    },
    "a UMT5 text encoder": {
        "encoder.block.0.layer.0.SelfAttention.q.weight": (8, 8), "shared.weight": (256384, 1),
    },
    "a LoRA for FLUX.1": {
        "transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": (4, 8),
        "transformer.single_transformer_blocks.0.attn.to_q.lora_B.weight": (8, 4),
    },
    "a variant of FLUX.1 that takes pictures": {
        "double_blocks.0.img_attn.qkv.weight": (24, 8), "img_in.weight": (8, 384),
    },
    "a FLUX.2 transformer": {
        "double_blocks.0.img_attn.qkv.weight": (24, 8), "img_in.weight": (8, 128),
        "double_stream_modulation_img.lin.weight": (8, 8),
    },
    "a Qwen-Image transformer": {"transformer_blocks.0.img_mod.1.weight": (8, 8)},
    "an unknown model": {"something": (1,)},
}  # fmt: skip


@pytest.mark.parametrize("title", FOREIGN)
def test_models_that_cannot_be_used_are_named(title, tmp_path):
    shapes = FOREIGN[title]
    state = {key: torch.zeros(shape, dtype=torch.uint8) for key, shape in shapes.items()}
    path = small.write(tmp_path, chosen=state)["chosen"]
    with pytest.raises(InputError, match=f"transformer: chosen.safetensors is {title}"):
        single_files.choose({"transformer": path})


def test_a_missing_part_is_named(flux, sd3):
    for paths, missing in ((flux[1], "t5"), (flux[1], "vae"), (sd3[1], "clip_g")):
        rest = {name: path for name, path in paths.items() if name != missing}
        with pytest.raises(InputError, match=f"{missing}: .* needs one"):
            single_files.choose(rest)


def test_only_the_header_is_read(tmp_path):
    """A sparse file of 43 GB is recognised at once."""
    shape, size = [65536, 163840], 4 * 65536 * 163840
    header = {
        "double_blocks.0.img_attn.qkv.weight": {
            "dtype": "F32", "shape": shape, "data_offsets": [0, size],
        },
        "img_in.weight": {"dtype": "F32", "shape": [3072, 64], "data_offsets": [size, size + 786432]},
    }  # fmt: skip
    text = json.dumps(header).encode()
    path = tmp_path / "large.safetensors"
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + size + 786432)
    assert files.read(path, "transformer").describe() == "a FLUX.1 transformer (float32, 43.0 GB)"


def test_damaged_files_and_other_formats_are_refused(flux, tmp_path):
    whole = flux[1]["vae"].read_bytes()
    for name, content, message in (
        ("cut.safetensors", whole[:-1000], r"cut\.safetensors is incomplete: [\d,]+ bytes of"),
        ("header.safetensors", whole[:200], "not a safetensors file, or only part"),
        ("empty.safetensors", b"", "not a safetensors file, or only part"),
        ("text.safetensors", b"<html>not found</html>" * 9, "not a safetensors file, or only part"),
        ("old.ckpt", b"PK\x03\x04" + bytes(100), "is a pickle"),
        ("older.ckpt", b"\x80\x02}q\x00." + bytes(100), "is a pickle"),
        ("model.gguf", b"GGUF" + bytes(100), "is a GGUF file"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError, match=message) as caught:
            single_files.choose({**flux[1], "vae": path})
        assert caught.value.input_name == "vae"


def test_weights_unlike_the_release_are_refused(flux, files_host, tmp_path):
    state = load_file(flux[1]["transformer"])
    state["double_blocks.1.img_mlp.2.extra"] = torch.zeros(1)
    path = tmp_path / "odd.safetensors"
    save_file(state, path)
    with pytest.raises(InputError, match="transformer: .*but not as released"):
        load(files_host, {**flux[1], "transformer": path})


def test_cancelling_stops_between_the_parts(flux, files_host):
    from gdro_comfy.progress import Cancelled

    files_host.cancel_after = 1
    with pytest.raises(Cancelled):
        load(files_host, flux[1])
