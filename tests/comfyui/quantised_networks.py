"""Train a tiny Flux whose linear layers store their weights in other ways, and print what was measured.

Run by ComfyUI's Python in its checkout: python quantised_networks.py PACK FORMAT...
"""

import json

from inside_comfyui import arguments as formats  # isort: skip

import comfy.model_patcher
import comfy.ops
import comfy.quant_ops
import comfy.supported_models as known
import packed_layers
import torch
from gdro_pack.gdro_comfy.data.prompts import Prompt
from gdro_pack.gdro_comfy.errors import InputError
from gdro_pack.gdro_comfy.models import flow
from gdro_pack.gdro_comfy.models.base import AdapterConfig
from gdro_pack.nodes.wires import adapters, probe
from gdro_pack.nodes.wires.model import NativeFlowModel
from tiny_networks import NETWORKS, Autoencoder, TextEncoder, configuration

QUANTISED = {  # the format in a file, ComfyUI's layout, how weights are quantised, what the file says
    "fp8 scaled": ("float8_e4m3fn", "TensorCoreFP8E4M3Layout", {"scale": "recalculate"}, {}),
    "fp8 scaled, bf16 products": (
        "float8_e4m3fn", "TensorCoreFP8E4M3Layout", {"scale": "recalculate"},
        {"full_precision_matrix_mult": True},
    ),
    "int8": ("int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True}, {}),
    "int8 convrot": (
        "int8_tensorwise", "TensorWiseINT8Layout", {"per_channel": True, "convrot": True},
        {"convrot": True},
    ),
    "nvfp4": ("nvfp4", "TensorCoreNVFP4Layout", {"scale": "recalculate"}, {}),
    "nvfp4 smoothed": ("nvfp4", "TensorCoreNVFP4Layout", {"scale": "recalculate"}, {}),
    "mxfp8": ("mxfp8", "TensorCoreMXFP8Layout", {}, {}),
    "convrot w4a4": ("convrot_w4a4", "TensorCoreConvRotW4A4Layout", {}, {}),
    "w4a8": ("asym_w4a8_int8", "AsymW4A8Int8Layout", {}, {}),
}  # fmt: skip
PROMPTS, SIZE = (Prompt("a cat"), Prompt("two dogs in a row")), (64, 64)


def numbers():
    """Return the weights of a network with 256 features, the least that every format takes."""
    with torch.inference_mode():
        model = described(None, torch.float32).get_model({}, device="cpu")
        generator = torch.Generator().manual_seed(0)
        for key, parameter in model.diffusion_model.named_parameters():
            strength = 0.1 if "mod" in key else 0.05
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * strength)
            if "norm" in key and key.endswith(("weight", "scale")):
                parameter.fill_(1.0)
        return model.diffusion_model.state_dict()


def described(operations, dtype, **settings):
    NETWORKS["Flux"] = {
        **NETWORKS["Flux"], "hidden_size": 256, "axes_dim": [32, 48, 48], **settings,
    }  # fmt: skip
    config = configuration(known, "Flux")
    config.custom_operations = operations
    config.set_inference_dtype(dtype, None)
    return config


def model_of(operations, weights, dtype=torch.float32, cast=None):
    """Return the model on wires whose network holds weights in the way of ``operations``."""
    with torch.inference_mode():
        config = described(operations, dtype)
        config.set_inference_dtype(dtype, cast)
        network = config.get_model({}, device="cpu")
        loaded = network.diffusion_model.load_state_dict(weights, strict=False)
        assert not loaded.missing_keys
        cpu = torch.device("cpu")
        patcher = comfy.model_patcher.ModelPatcher(network, cpu, cpu)
        return NativeFlowModel(patcher, TextEncoder(), Autoencoder(patcher))


def blocks(weights):
    """Return the names of the linear layers in the blocks."""
    return [
        key.removesuffix(".weight")
        for key, value in weights.items()
        if "blocks" in key and key.endswith(".weight") and value.ndim == 2
    ]


def quantised(name, weights):
    """Return a model with quantised blocks, and the numbers that they stand for."""
    kind, layout, how, said = QUANTISED[name]
    stored, meant = dict(weights), dict(weights)
    with torch.inference_mode():
        for layer in blocks(weights):
            weight = stored.pop(f"{layer}.weight")
            smoothing = None
            if name == "nvfp4 smoothed":
                smoothing = torch.linspace(0.5, 3, weight.shape[1])
                weight = weight / smoothing
            packed = comfy.quant_ops.QuantizedTensor.from_float(weight, layout, **how)
            stored.update(packed.state_dict(f"{layer}.weight"))
            text = json.dumps({"format": kind, **said}).encode()
            stored[f"{layer}.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
            meant[f"{layer}.weight"] = packed.dequantize()
            if smoothing is not None:
                stored[f"{layer}.pre_quant_scale"] = smoothing
                meant[f"{layer}.weight"] = packed.dequantize() * smoothing
        # ComfyUI computes with plain numbers where a device has no kernel, as a CPU has none for these.
        without = {"mxfp8", "nvfp4"}
        operations = comfy.ops.mixed_precision_ops({}, torch.float32, disabled=without)
    return model_of(operations, stored), meant


def gradients(model):
    """Return the velocities and the gradients of one training step, as two vectors."""
    x0 = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    noise = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(4))
    sigma = torch.tensor([0.4, 0.8])
    with torch.inference_mode(), model.active():
        cond = model.with_guidance(model.encode(PROMPTS), 2.5)
    x, target = flow.interpolate(x0, noise, sigma), flow.target_velocity(x0, noise)
    with torch.inference_mode(False), torch.enable_grad(), model.active():
        config = AdapterConfig(4, 4.0, "attention+mlp")
        with model.adapters(config, 0) as parameters, model.checkpointed(True):
            generator = torch.Generator().manual_seed(5)
            with torch.no_grad():
                for parameter in parameters.values():
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
            with model.graph():
                velocity = model.velocity(x, sigma, cond)
                flow.velocity_error(velocity, target).mean().backward()
            found = torch.cat([p.grad.flatten() for p in parameters.values()])
    return velocity.detach(), found


def distance(one, other):
    return float((one.float() - other.float()).norm() / other.float().norm())


def layers_tried(model):
    """Try the layers once more, and return how many are given unit vectors."""
    tried, check = [], probe.check_layer
    probe.check_layer = lambda name, *others: (tried.append(name), check(name, *others))
    try:
        probe.check_gradients(model.network, model.dtype, model.device)
    finally:
        probe.check_layer = check
    return len(tried)


def measure(name):
    weights = numbers()
    if name == "fp8":
        stored = {key: value.to(torch.float8_e4m3fn) for key, value in weights.items()}
        meant = {key: value.float() for key, value in stored.items()}
        model = model_of(None, stored, torch.float8_e4m3fn, torch.float32)
    elif name == "packed with a cast":
        stored, meant = packed_layers.packed(weights, blocks(weights))
        model = model_of(packed_layers.WithCast, stored)
    elif name == "packed, no cast":
        stored, meant = packed_layers.packed(weights, blocks(weights))
        model = model_of(packed_layers.WithoutCast, stored)
    elif name == "no linear class":
        model, meant = model_of(packed_layers.Foreign, weights), weights
    elif name == "a layer in bf16":
        model = model_of(packed_layers.OfAPack, weights)
        with torch.inference_mode():  # its block would cast for it
            model.network.final_layer.linear.to(torch.bfloat16)
        return {"tried": layers_tried(model)}
    elif name == "scaled aside":
        model, meant = model_of(packed_layers.ScaledAside, weights), weights
    else:
        model, meant = quantised(name, weights)
    tried = layers_tried(model)
    velocity, found = gradients(model)
    expected_velocity, expected = gradients(model_of(None, meant))
    return {
        "velocity": distance(velocity, expected_velocity),
        "gradient": distance(found, expected),
        "tried": tried,
        "layers": len(adapters.linear_layers(model.network)),
        "finite": bool(found.isfinite().all()),
    }


torch.set_num_threads(1)
for name in formats:
    try:
        row = measure(name)
    except InputError as error:
        row = {"refused": str(error)}
    print("GDRO " + json.dumps({"format": name, **row}), flush=True)
