"""Align tiny random networks of ComfyUI's families, and print what was measured, a line of JSON each.

Run by ComfyUI's Python in its checkout: python native_networks.py PACK FAMILY... The weights are made in
inference mode, as ComfyUI's loaders make them in nodes.
"""

import json
import os
import sys
import types

pack, *families = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, os.getcwd())

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_base  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.sample  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.supported_models as known  # noqa: E402
import torch  # noqa: E402

# The pack without its server routes: nodes/__init__.py needs a running ComfyUI.
for name, folder in (("gdro_pack", pack), ("gdro_pack.nodes", os.path.join(pack, "nodes"))):
    package = types.ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package

from gdro_pack.gdro_comfy.data.lora_weights import LoRAWeights  # noqa: E402
from gdro_pack.gdro_comfy.data.prompts import Prompt  # noqa: E402
from gdro_pack.gdro_comfy.data.runs import SamplerChoice  # noqa: E402
from gdro_pack.gdro_comfy.errors import InputError  # noqa: E402
from gdro_pack.gdro_comfy.lora import files as lora_files  # noqa: E402
from gdro_pack.gdro_comfy.models import flow  # noqa: E402
from gdro_pack.gdro_comfy.models.base import AdapterConfig  # noqa: E402
from gdro_pack.nodes.wires.model import NativeFlowModel  # noqa: E402

WIDTH, POOLED = 48, 32
FLUX_LIKE = {
    "context_in_dim": WIDTH, "hidden_size": 128, "num_heads": 2, "depth": 2,
    "depth_single_blocks": 2,
}  # fmt: skip
NETWORKS = {
    "Flux": {
        **FLUX_LIKE, "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
        "vec_in_dim": POOLED, "mlp_ratio": 4.0, "axes_dim": [16, 24, 24], "theta": 10000,
        "qkv_bias": True, "guidance_embed": True, "txt_ids_dims": [],
    },
    "Flux2": {
        **FLUX_LIKE, "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1,
        "vec_in_dim": None, "mlp_ratio": 3.0, "axes_dim": [16, 16, 16, 16], "theta": 2000,
        "qkv_bias": False, "guidance_embed": True, "txt_ids_dims": [3], "global_modulation": True,
        "mlp_silu_act": True, "ops_bias": False, "default_ref_method": "index",
        "ref_index_scale": 10.0,
    },
    "Chroma": {
        **FLUX_LIKE, "image_model": "chroma", "in_channels": 64, "out_channels": 64, "patch_size": 2,
        "vec_in_dim": None, "mlp_ratio": 4.0, "axes_dim": [16, 24, 24], "theta": 10000,
        "qkv_bias": True, "txt_ids_dims": [], "in_dim": 64, "out_dim": 128, "hidden_dim": 96,
        "n_layers": 2,
    },
    "ZImage": {
        "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 256, "n_layers": 2,
        "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4, "multiple_of": 32,
        "ffn_dim_multiplier": 2.0, "qk_norm": True, "cap_feat_dim": WIDTH,
        "axes_dims": [16, 24, 24], "axes_lens": [64, 64, 64], "rope_theta": 256.0,
        "z_image_modulation": True, "time_scale": 1000.0, "pad_tokens_multiple": 32,
    },
    "QwenImage": {
        "image_model": "qwen_image", "patch_size": 2, "in_channels": 64, "out_channels": 16,
        "num_layers": 2, "attention_head_dim": 64, "num_attention_heads": 2,
        "joint_attention_dim": WIDTH, "axes_dims_rope": (16, 24, 24),
    },
    "SD3": {
        "in_channels": 16, "out_channels": 16, "patch_size": 2, "depth": 2, "input_size": None,
        "pos_embed_max_size": 16, "num_patches": 256, "adm_in_channels": POOLED,
        "context_embedder_config": {
            "target": "torch.nn.Linear", "params": {"in_features": WIDTH, "out_features": 128},
        },
        "pos_embed_scaling_factor": None,
    },
}  # fmt: skip
SIZE, STEPS, GUIDANCE, SEEDS = (64, 64), 2, 2.5, (11, 12, 13)
PROMPTS = (Prompt("a cat"), Prompt("two dogs in a row"))


class TextEncoder:
    """Tokens drawn from the text, of another length for another text."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        generator = torch.Generator().manual_seed(len(text))
        tokens = torch.randn(1, 4 + len(text) % 5, WIDTH, generator=generator)
        return [[tokens, {"pooled_output": torch.randn(1, POOLED, generator=generator)}]]


class Autoencoder:
    """As far as sampling needs one: it says how many pixels a latent cell has."""

    def __init__(self, patcher):
        self.ratio = patcher.get_model_object("latent_format").spacial_downscale_ratio

    def spacial_compression_decode(self):
        return self.ratio


def network(family):
    """Return a ModelPatcher with random weights that are inference tensors."""
    with torch.inference_mode():
        config = getattr(known, family)(dict(NETWORKS[family]))
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, device="cpu")
        generator = torch.Generator().manual_seed(0)
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
            elif "norm" in key and key.endswith(("weight", "scale")):
                parameter.fill_(1.0)
            else:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.02)
        for (
            buffer
        ) in model.diffusion_model.buffers():  # SD3's table of positions, empty until loaded
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.02)
        device = comfy.model_management.get_torch_device()
        return comfy.model_patcher.ModelPatcher(model, device, torch.device("cpu"))


def ksampler(patcher, model, prompt, seed, steps=STEPS):
    """Return what KSampler draws for one prompt and seed, in the network's own latents."""
    embedded = patcher.model.model_config.unet_config.get("guidance_embed")
    positive = model.clip.encode_from_tokens_scheduled(prompt.text)
    if embedded:  # as FluxGuidance does
        positive = [[tokens, {**options, "guidance": GUIDANCE}] for tokens, options in positive]
    negative = model.clip.encode_from_tokens_scheduled("")
    empty = comfy.sample.fix_empty_latent_channels(patcher, torch.zeros(1, 4, 8, 8), 8)
    noise = comfy.sample.prepare_noise(empty, seed)
    samples = comfy.sample.sample(
        patcher, noise, steps, 1.0 if embedded else GUIDANCE, "euler", "simple", positive, negative,
        empty, disable_pbar=True, seed=seed,
    )  # fmt: skip
    return patcher.model.process_latent_in(samples)[0]


def measure(family):
    patcher = network(family)
    before = {key: value.clone() for key, value in patcher.model.state_dict().items()}
    row = {"family": family}
    with torch.inference_mode():
        model = NativeFlowModel(patcher, TextEncoder(), Autoencoder(patcher))
        with model.active():
            encoded = model.encode(PROMPTS)
            order = [0, 1, 0]
            x0 = model.sample(encoded.select(order), SEEDS, STEPS, GUIDANCE, SIZE)
            one_step = model.sample(encoded.select([0]), SEEDS[:1], 1, 1.0, SIZE)
        drawn = torch.stack(
            [ksampler(patcher, model, PROMPTS[p], s) for p, s in zip(order, SEEDS, strict=True)]
        )
        row["sampling"] = float((x0 - drawn).abs().max())
        row["scale"] = float(x0.abs().mean())
        row["ndim"] = x0.ndim
    with torch.inference_mode(False), torch.enable_grad(), model.active():
        row |= gradients(model, encoded.select(order), x0.clone())
        row["one_step"] = one_step_difference(model, encoded, one_step)
        row |= exported(patcher, model, encoded.select(order))
    after = patcher.model.state_dict()
    row["unchanged"] = all(
        torch.equal(value, after[key]) and after[key].is_inference()
        for key, value in before.items()
    )
    row["in_training"] = comfy.model_management.in_training
    again = network(family)
    other = NativeFlowModel(again, TextEncoder(), Autoencoder(again))
    row["same_identity"] = other.identity == model.identity
    return row


def one_step_difference(model, encoded, sampled):
    """A single Euler step from pure noise ends at the estimate of x0 that the velocity gives."""
    noise = torch.randn(sampled.shape[1:], generator=torch.Generator().manual_seed(SEEDS[0]))[None]
    cond = model.with_guidance(encoded.select([0]), 1.0)
    with torch.no_grad(), model.graph():
        velocity = model.velocity(noise, torch.ones(1), cond)
    return float((noise - velocity - sampled).abs().max())


def randomise(parameters, seed=5):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)


def gradients(model, cond, x0):
    """Compare the slope of the loss along a random direction with a finite difference."""
    noise = torch.randn(1, *x0.shape[1:], generator=torch.Generator().manual_seed(1)).expand_as(x0)
    sigma = torch.full((len(x0),), 0.7)
    x, target = flow.interpolate(x0, noise, sigma), flow.target_velocity(x0, noise)
    cond = model.with_guidance(cond, GUIDANCE)
    found = {}
    row = {}
    for recomputed in (False, True):
        config = AdapterConfig(4, 4.0, "attention+mlp")
        with model.adapters(config, 0) as parameters, model.checkpointed(recomputed):

            def loss():
                return flow.velocity_error(model.velocity(x, sigma, cond), target).mean()

            with torch.no_grad(), model.graph(), model.reference():
                reference = float(loss())
            with torch.no_grad(), model.graph():
                row["fresh_adapter_changes_nothing"] = float(loss()) == reference
            randomise(parameters)
            with model.graph():
                value = loss()
                value.backward()
            found[recomputed] = {
                n: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for n, p in parameters.items()
            }
            row["without_gradient"] = sum(p.grad is None for p in parameters.values())
            row["not_applied"] = sorted(
                set(model.adapter_modules("attention+mlp")) - model._adapters.applied
            )
            generator = torch.Generator().manual_seed(9)
            direction = {
                n: torch.randn(p.shape, generator=generator) for n, p in parameters.items()
            }
            slope = sum(float((found[recomputed][n] * d).sum()) for n, d in direction.items())
            losses, step = [], 2e-3
            with torch.no_grad(), model.graph():
                for factor in (1, -2, 1):
                    for name, parameter in parameters.items():
                        parameter.add_(factor * step * direction[name])
                    losses.append(float(loss()))
            difference = (losses[0] - losses[1]) / (2 * step)
            size = sum(float(g.pow(2).sum()) for g in found[recomputed].values()) ** 0.5
            row["slope_error"] = abs(slope - difference) / max(abs(difference), 0.05 * size)
    one, other = (torch.cat([g.flatten() for g in found[k].values()]) for k in (False, True))
    row["recompute_error"] = float((one - other).norm() / one.norm())
    return row


def exported(patcher, model, cond):
    """Put a LoRA out and in through the stock loader; compare KSampler's image with the hooks'."""
    with model.adapters(AdapterConfig(4, 8.0, "attention+mlp"), 0) as parameters:
        randomise(parameters)
        weights = LoRAWeights({n: p.detach().clone() for n, p in parameters.items()}, 4, 8.0)
    tensors = lora_files.to_file_keys(weights, model.key_prefix)
    again = lora_files.from_file_keys(tensors, "x")
    assert all(torch.equal(again.tensors[n], t) for n, t in weights.tensors.items())
    lora_files.check_fits(again, model, "x")
    with model.with_lora(again, 1.0):
        ours = model.sample(cond.select([0]), SEEDS[:1], STEPS, GUIDANCE, SIZE)[0]
    base = model.sample(cond.select([0]), SEEDS[:1], STEPS, GUIDANCE, SIZE)[0]
    with torch.inference_mode():
        patched, _ = comfy.sd.load_lora_for_models(patcher, None, tensors, 1.0, 0)
        theirs = ksampler(patched, model, PROMPTS[0], SEEDS[0])
        restored = ksampler(patcher, model, PROMPTS[0], SEEDS[0])
    return {
        "modules": len(weights.modules),
        "patches": sum(len(p) for p in patched.patches.values()),
        "lora": float((ours - theirs).abs().max()),
        "lora_effect": float((ours - base).abs().max()),
        "after": float((restored - base).abs().max()),
    }


def refusal(*wires):
    try:
        NativeFlowModel(*wires)
    except InputError as error:
        return str(error)
    return ""


def refusals():
    """What is said to wires that cannot be aligned or do not belong together."""
    flux = network("Flux")
    autoencoder = Autoencoder(flux)
    sdxl = known.SDXL({"image_model": "unet", "disable_unet_model_creation": True})
    eps = types.SimpleNamespace(
        model=types.SimpleNamespace(model_config=sdxl),
        get_model_object=lambda name: comfy.model_base.model_sampling(sdxl, comfy.model_base.ModelType.EPS),
    )  # fmt: skip
    patched = flux.clone()
    patched.set_model_attn1_patch(lambda q, k, v, extra_options: (q, k, v))
    wrapped = flux.clone()
    wrapped.set_model_unet_function_wrapper(lambda apply_model, options: None)
    narrow = Autoencoder(flux)
    narrow.latent_channels = 4

    class OtherEncoder(TextEncoder):
        def encode_from_tokens_scheduled(self, text):
            return [[torch.zeros(1, 4, WIDTH + 1), {}]]

    def encode():
        try:
            NativeFlowModel(flux, OtherEncoder(), autoencoder).encode(PROMPTS)
        except InputError as error:
            return str(error)
        return ""

    def choose(name, negative, guidance):
        model = NativeFlowModel(network("Chroma"), TextEncoder(), autoencoder)
        try:
            model.resolve_sampler(SamplerChoice(name, "simple", negative), guidance)
        except InputError as error:
            return str(error)
        return ""

    return {
        "sampler": choose("eulr", "", 1.0),
        "negative": choose("euler", "blurry", 1.0),
        "used negative": choose("euler", "blurry", 2.0),
        "sdxl": refusal(eps, TextEncoder(), autoencoder),
        "attention patch": refusal(patched, TextEncoder(), autoencoder),
        "function wrapper": refusal(wrapped, TextEncoder(), autoencoder),
        "vae": refusal(flux, TextEncoder(), narrow),
        "clip": encode(),
        "none": refusal(flux, TextEncoder(), autoencoder),
    }


def identities():
    """Whether wires that draw other images have other identities."""
    flux = network("Flux")
    plain = NativeFlowModel(flux, TextEncoder(), Autoencoder(flux)).identity
    model = NativeFlowModel(flux, TextEncoder(), Autoencoder(flux))
    with torch.inference_mode(False), model.adapters(AdapterConfig(2, 2.0), 0) as parameters:
        randomise(parameters)
        weights = LoRAWeights({n: p.detach().clone() for n, p in parameters.items()}, 2, 2.0)
    tensors = lora_files.to_file_keys(weights, model.key_prefix)
    other = {key: value + 0.5 for key, value in tensors.items()}

    def identity(lora, strength):
        patched, _ = comfy.sd.load_lora_for_models(flux, None, lora, strength, 0)
        return NativeFlowModel(patched, TextEncoder(), Autoencoder(flux)).identity

    shifted = flux.clone()
    sampling = type(flux.get_model_object("model_sampling"))(flux.model.model_config)
    sampling.set_parameters(shift=2.5)
    shifted.add_object_patch("model_sampling", sampling)
    kinds = {
        "plain": plain,
        "lora": identity(tensors, 1.0),
        "weaker lora": identity(tensors, 0.5),
        "other lora": identity(other, 1.0),
        "shift": NativeFlowModel(shifted, TextEncoder(), Autoencoder(flux)).identity,
    }
    return {
        "different": len({json.dumps(i, sort_keys=True) for i in kinds.values()}) == len(kinds),
        "same again": identity(tensors, 1.0) == kinds["lora"],
    }


def bundled():
    """The velocities of the bundled SD3 through diffusers and through wires."""
    from gdro_pack.gdro_comfy.models import loading
    from gdro_pack.nodes import native

    with torch.inference_mode(False):
        model = loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
        wires = native.parts(model)
    with torch.inference_mode():
        wired = NativeFlowModel(*wires)
    prompts = [Prompt("one red circle"), Prompt("two blue squares")]
    x = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.35, 0.8])
    with torch.no_grad(), model.active():
        one = model.velocity(x, sigma, model.encode(prompts))
        with wired.active(), wired.graph():
            other = wired.velocity(x, sigma, wired.encode(prompts))
    return {
        "difference": float((one - other).abs().max()),
        "scale": float(one.abs().mean()),
        "size": list(wired.default_size),
        "downscale": wired.latent_downscale,
    }


torch.set_num_threads(1)
for name in families:
    row = {"refusals": refusals, "identities": identities, "bundled": bundled}.get(
        name, lambda name=name: measure(name)
    )()
    print("GDRO " + json.dumps(row), flush=True)
