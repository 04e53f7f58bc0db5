"""Model files of other kinds and layouts: read exactly, or refused as what they are."""

import json
import shutil

import pytest
import single_file_models as small
import tiny_models
import torch
from safetensors.torch import save_file

from gdro_comfy.errors import InputError
from gdro_comfy.models import files, loading, original_layouts, single_files
from gdro_comfy.models.stored_weights import plain_state

CPU = torch.device("cpu")
F8 = torch.float8_e4m3fn


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A FLUX.1: its transformer's original tensors, its text encoders' tensors, and its files."""
    transformer, t5, clip = small.flux_transformer(), small.t5(), small.clip(768, False)
    state = small.original(transformer, original_layouts.flux_names(2, 2))
    parts = {"transformer": state, "clip_l": small.encoder(clip), "t5": small.encoder(t5),
             "vae": small.original_vae(tiny_models.vae(32, 32))}  # fmt: skip
    return transformer, parts, small.write(tmp_path_factory.mktemp("flux"), **parts)


@pytest.fixture
def load(whole, tmp_path):
    """Load the whole model with another file at one input."""

    def load(kind, tensors, name="x"):
        path = tmp_path / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
        host = small.FilesHost(tmp_path / "output")
        return single_files.load(host, {**whole[2], kind: path}, CPU, torch.float32)

    return load


def quantized(state, kind):
    """The matrices in fp8 with their scales; biases in plain fp8, as some tools leave them."""
    result = {}
    for key, tensor in state.items():
        stem, _, end = key.rpartition(".")
        if end != "weight" or tensor.ndim != 2 or "in" in stem.split("_"):
            result[key] = tensor.to(F8) if end == "bias" else tensor
            continue
        rows, columns = tensor.shape
        blocks = {
            "whole": tensor.reshape(1, 1, rows * columns), "rows": tensor[:, None],
            "rows of one dimension": tensor[:, None], "blocks": tensor.reshape(rows, -1, 32),
        }[kind]  # fmt: skip
        scale = blocks.abs().amax(2, keepdim=True) / 448
        result[key] = (blocks / scale).reshape(rows, columns).to(F8)
        shape = {"whole": (), "rows": (rows, 1), "rows of one dimension": (rows,)}.get(kind)
        result[f"{stem}.scale_weight"] = scale if shape is None else scale.reshape(shape)
    return result


@pytest.mark.parametrize("kind", ["whole", "rows", "rows of one dimension", "blocks"])
def test_fp8_weights_are_scaled_and_their_biases_are_not(whole, load, kind):
    expected = whole[0].state_dict()
    found = plain_state(load("transformer", quantized(whole[1]["transformer"], kind)).transformer)
    for name, tensor in expected.items():
        error = (found[name] - tensor).abs().max() / tensor.abs().max()
        assert error < 0.07, name


@pytest.mark.parametrize(
    "change",
    [
        {"text_projection.weight": torch.eye(768), "logit_scale": torch.tensor(1.0),
         "vision_model.pre_layrnorm.weight": torch.zeros(8), "visual_projection.weight": torch.zeros(8, 8)},
        "bare",
        "prefixed",
    ],
)  # fmt: skip
def test_a_clip_is_read_in_every_layout(whole, load, change):
    own = whole[1]["clip_l"]
    if change == "bare":  # as transformers 5 saves it
        tensors = {key.removeprefix("text_model."): tensor for key, tensor in own.items()}
    elif change == "prefixed":
        tensors = {f"clip_l.transformer.{key}": tensor for key, tensor in own.items()}
    else:
        tensors = own | change
    encoder = load("clip_l", tensors).pipeline.text_encoder
    expected = plain_state(load("clip_l", own).pipeline.text_encoder)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in plain_state(encoder).items())


def test_a_t5_is_read_by_either_name_of_its_embeddings_and_with_a_tokenizer_inside(whole, load):
    own = whole[1]["t5"]
    renamed = {
        key.replace("shared.", "encoder.embed_tokens."): tensor for key, tensor in own.items()
    }
    renamed |= {"spiece_model": torch.zeros(9, dtype=torch.uint8)}
    encoder = plain_state(load("t5", renamed).pipeline.text_encoder_2)
    assert torch.equal(encoder["shared.weight"], own["shared.weight"])
    assert torch.equal(encoder["encoder.embed_tokens.weight"], own["shared.weight"])


def packed(state):
    """The matrices in bytes, as nf4, nvfp4 and int8 have them."""
    return {
        key: torch.zeros(tensor.numel() // 2, 1, dtype=torch.uint8) if tensor.ndim == 2 else tensor
        for key, tensor in state.items()
    }


def refusals(state, t5, vae):
    """Input, tensors, message and the file's name of what is no part of a model."""
    z = torch.zeros
    flux2 = vae | {"decoder.conv_in.weight": z(8, 32, 3, 3)}
    return {
        "nf4": ("transformer", packed(state) | {"img_in.weight.quant_state.bitsandbytes__nf4": z(4)},
                "quantized to nf4 or fp4 by bitsandbytes.*quantization on this node", "x"),
        "nunchaku": ("transformer", {"single_transformer_blocks.0.qkv_proj.qweight": z(2)}, "Nunchaku", "x"),
        "nvfp4": ("transformer",
                  state | {"txt_in.weight": z(128, 2048, dtype=torch.uint8)},
                  "is quantized in a format", "x"),
        "mxfp8": ("transformer", state | {"img_in.weight": state["img_in.weight"].to(F8),
                                          "img_in.weight_scale": z(128, 2, dtype=torch.uint8)},
                  "quantized in a format that cannot be trained on .*img_in.weight_scale", "x"),
        "scale": ("transformer", state | {"img_in.weight": state["img_in.weight"].to(F8),
                                          "img_in.weight_scale": z(7)},
                  "img_in.weight_scale has the shape", "x"),
        "fill": ("transformer", state | {"img_in.weight": z(128, 384)}, "takes pictures", "x"),
        "shard": ("transformer", state, "part 2 of 3 of a model in several files.*diffusers folder",
                  "diffusion_pytorch_model-00002-of-00003"),
        "controlnet": ("transformer", state | {"controlnet_blocks.0.weight": z(2)}, "a ControlNet", "x"),
        "broken shapes": ("transformer", state | {"img_in.weight": z(4, 64)}, "not as released", "x"),
        "no norm": ("transformer", {k: v for k, v in state.items() if "key_norm" not in k},
                    "not as released", "x"),
        "redux": ("transformer", {"redux_up.weight": z(2, 2)}, "FLUX.1 Redux", "x"),
        "openclip": ("clip_l", {"transformer.resblocks.0.attn.in_proj_weight": z(6, 2)}, "OpenCLIP", "x"),
        "siglip": ("clip_l", {"text_model.embeddings.token_embedding.weight": z(9, 768),
                              "text_model.head.weight": z(2, 2)}, "a SigLIP text encoder", "x"),
        "half a t5": ("t5", {k: v for k, v in t5.items() if "relative" not in k}, "not as released", "x"),
        "decoder": ("vae", {k: v for k, v in vae.items() if not k.startswith("encoder.")},
                    "the decoder of a VAE", "x"),
        "flux2 vae": ("vae", flux2, "VAE of 32 channels, as of FLUX.2", "x"),
    }  # fmt: skip


@pytest.mark.parametrize("name", refusals(*({"img_in.weight": torch.ones(1)}, {}, {})))
def test_a_file_that_is_no_part_is_called_what_it_is(whole, load, name):
    parts = whole[1]
    kind, tensors, message, file = refusals(parts["transformer"], parts["t5"], parts["vae"])[name]
    with pytest.raises(InputError, match=f"{kind}: {file}.safetensors .*{message}"):
        load(kind, tensors, file)


def test_controlnets_are_not_offered_as_transformers(whole, tmp_path):
    for name, layout in (
        ("ours", {}),
        ("control", {"controlnet_x_embedder.weight": torch.ones(2)}),
    ):
        save_file(whole[0].state_dict() | layout, tmp_path / f"{name}.safetensors")
    paths = {path.stem: path for path in tmp_path.glob("*.safetensors")}
    assert single_files.networks(paths) == ["ours"]
    sd3 = small.sd3_transformer().state_dict()
    save_file(sd3 | {"pos_embed_input.proj.weight": torch.ones(2)}, tmp_path / "sd3.safetensors")
    assert files.read(tmp_path / "sd3.safetensors", "transformer").title == "a ControlNet"


def test_a_transformer_without_guidance_is_said_to_be_taken_for_schnell(load, caplog):
    schnell = small.original(small.flux_transformer(False), original_layouts.flux_names(2, 2))
    model = load("transformer", schnell)
    assert model.pipeline.scheduler.config.shift == 1
    assert "taken for FLUX.1-schnell" in caplog.text


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(loading.bundled_folder("tiny SD3"), tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
@pytest.mark.parametrize(("content", "message"), [
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "pointer of Git LFS"),
    (None, "is incomplete"),
])  # fmt: skip
def test_a_folder_with_a_damaged_file_is_refused_with_its_name(folder, part, content, message):
    path = next((folder / part).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(InputError, match=f"folder: .*{part}/{path.name} .*{message}"):
        loading.load(folder, CPU)


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2"])
@pytest.mark.parametrize("emptied", [False, True])
def test_a_tokenizer_without_its_vocabulary_is_refused(folder, part, emptied):
    for path in (folder / part).iterdir():
        if emptied or path.name != "tokenizer_config.json":
            path.unlink()
    with pytest.raises(
        InputError, match=f"{part} knows .*some of its files are missing|cannot be loaded"
    ):
        loading.load(folder, CPU)


def test_a_folder_whose_configuration_does_not_fit_its_weights_is_refused(folder):
    config = json.loads((folder / "transformer" / "config.json").read_text())
    config["num_layers"] = "many"
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="cannot be loaded"):
        loading.load(folder, CPU)
