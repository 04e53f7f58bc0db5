"""An exported LoRA in ComfyUI's own loader gives the velocities of the trained adapter."""

import os
import subprocess

import pytest
import tiny_models
import torch
from safetensors.torch import load_file, save_file

from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.lora import files
from gdro_comfy.models import loading
from gdro_comfy.models.base import AdapterConfig, LoRAFile, seeded_noise
from gdro_comfy.models.flux import FluxModel

from .conftest import CHECKOUT

PROMPTS = [Prompt("two red circles left of one blue square"), Prompt("one green star")]


def _sd3(folder, bundled_model):
    file = next((loading.bundled_folder("tiny SD3") / "transformer").glob("*.safetensors"))
    return bundled_model, PROMPTS, file


def _flux(folder, bundled_model):
    """Return the smallest FLUX.1 that ComfyUI recognises: one head of 128, one block of each kind."""
    pipeline = tiny_models.flux_pipeline(heads=1, head_width=128)
    pipeline.transformer.save_pretrained(folder / "transformer")
    [file] = (folder / "transformer").glob("*.safetensors")
    model = FluxModel(pipeline, {"pipeline": "tiny"}, torch.device("cpu"))
    return model, [Prompt("a red circle"), Prompt("two blue square")], file


@pytest.fixture(scope="module", params=[_sd3, _flux], ids=["sd3", "flux"])
def velocities(request, bundled_model, comfy_python, tmp_path_factory):
    """Our velocities and ComfyUI's, of the base and of an adapter with random weights."""
    folder = tmp_path_factory.mktemp("velocities")
    model, prompts, transformer = request.param(folder, bundled_model)
    cond = model.with_guidance(model.encode(prompts), 2.5)
    x, sigma = seeded_noise([1, 2], (16, 16, 16)), torch.tensor([0.35, 0.8])
    config = AdapterConfig(rank=4, alpha=8.0, target="attention+mlp")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad(), model.adapters(config) as parameters:
        for parameter in parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
        ours = {"aligned": model.velocity(x, sigma, cond)}
        with model.reference():
            ours["base"] = model.velocity(x, sigma, cond)
        weights = LoRAWeights(parameters, config.rank, config.alpha)
        save_file(files.to_file_keys(weights), folder / "lora.safetensors")
    inputs = {"x": x, "sigma": sigma, **cond.tensors}
    return ours, comfyui_velocities(folder, comfy_python, transformer, inputs)


def comfyui_velocities(folder, comfy_python, transformer, inputs):
    """Return ComfyUI's velocities with the file ``lora.safetensors`` in a folder."""
    save_file({k: v.contiguous() for k, v in inputs.items()}, folder / "inputs.safetensors")
    script = __file__.replace("test_lora.py", "velocities.py")
    arguments = [str(folder / f"{name}.safetensors") for name in ("lora", "inputs", "output")]
    done = subprocess.run(
        [comfy_python, script, str(transformer), *arguments],
        cwd=CHECKOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "lora key not loaded" not in done.stderr
    return load_file(folder / "output.safetensors")


def test_the_base_gives_the_same_velocities(velocities):
    ours, theirs = velocities
    assert (ours["base"] - theirs["base"]).abs().max() < 1e-4


def test_the_lora_gives_the_same_velocities(velocities):
    ours, theirs = velocities
    assert (ours["aligned"] - ours["base"]).abs().max() > 0.05
    assert (ours["aligned"] - theirs["aligned"]).abs().max() < 1e-4


def test_half_strength_is_in_between(velocities):
    _, theirs = velocities
    whole, half = theirs["aligned"] - theirs["base"], theirs["half"] - theirs["base"]
    assert 0.2 < half.norm() / whole.norm() < 0.8


def test_every_module_is_patched(velocities):
    _, theirs = velocities
    assert theirs["modules"] == theirs["patches"]


def test_a_merged_lora_in_kohyas_layout_equals_comfyuis_patch(host, comfy_python, tmp_path):
    """The original layers have query, key and value in one."""
    model = loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
    shapes, generator, tensors = model.linear_shapes(), torch.Generator().manual_seed(0), {}
    for old, modules in model.original_names().items():
        if not set(modules) <= shapes.keys() or not old.startswith("joint_blocks"):
            continue
        name, rows = f"lora_unet_{old.replace('.', '_')}", sum(shapes[m][0] for m in modules)
        columns = shapes[modules[0]][1]
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, columns, generator=generator) * 0.05
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 4, generator=generator) * 0.05
        tensors[f"{name}.alpha"] = torch.tensor(2.0)
    save_file(tensors, tmp_path / "lora.safetensors")
    x, sigma, cond = (
        seeded_noise([1, 2], (16, 16, 16)),
        torch.tensor([0.35, 0.8]),
        model.encode(PROMPTS),
    )
    file = next((loading.bundled_folder("tiny SD3") / "transformer").glob("*.safetensors"))
    inputs = {"x": x, "sigma": sigma, **cond.tensors}
    theirs = comfyui_velocities(tmp_path, comfy_python, file, inputs)["aligned"]
    model.prepare(host, [LoRAFile(tmp_path / "lora.safetensors", 1.0)])
    with torch.no_grad():
        assert (model.velocity(x, sigma, cond) - theirs).abs().max() < 1e-4
