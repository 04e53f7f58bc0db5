"""Align tiny random networks of ComfyUI's families, and print what was measured, a line of JSON each.

Run by ComfyUI's Python in its checkout: python native_networks.py PACK FAMILY... The weights are made in
inference mode, as ComfyUI's loaders make them in nodes.
"""

import json
import types

from inside_comfyui import arguments as families  # isort: skip

import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.sd
import comfy.supported_models as known
import torch
from gdro_pack.gdro_comfy.data.lora_weights import LoRAWeights
from gdro_pack.gdro_comfy.data.prompts import Prompt
from gdro_pack.gdro_comfy.data.runs import SamplerChoice
from gdro_pack.gdro_comfy.errors import InputError
from gdro_pack.gdro_comfy.lora import files as lora_files
from gdro_pack.gdro_comfy.models import counting, flow
from gdro_pack.gdro_comfy.models.base import AdapterConfig
from gdro_pack.nodes.wires import path, sizes
from gdro_pack.nodes.wires.model import NativeFlowModel
from tiny_networks import GATES, WIDTH, Autoencoder, TextEncoder, configuration

SIZE, STEPS, GUIDANCE, SEEDS = (64, 64), 2, 2.5, (11, 12, 13)
PROMPTS = (Prompt("a cat"), Prompt("two dogs in a row"))


def network(family):
    """Return a ModelPatcher with random weights that are inference tensors."""
    with torch.inference_mode():
        config = configuration(known, family)
        config.set_inference_dtype(torch.float32, None)
        model = config.get_model({}, device="cpu")
        generator = torch.Generator().manual_seed(0)
        for key, parameter in model.named_parameters():
            if "mod" in key.lower() or "adaln" in key.lower():  # gates that let the blocks through
                strength = GATES.get(family, 0.1)
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * strength)
            elif parameter.ndim > 1:
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
    patcher, clip = network(family), TextEncoder(family)
    before = {key: value.clone() for key, value in patcher.model.state_dict().items()}
    row = {"family": family}
    with torch.inference_mode():
        model = NativeFlowModel(patcher, clip, Autoencoder(patcher))
        with model.active():
            encoded = model.encode(PROMPTS)
            order = [0, 1, 0]
            x0 = model.sample(encoded.select(order), SEEDS, STEPS, GUIDANCE, SIZE)
            one_step = model.sample(encoded.select([0]), SEEDS[:1], 1, 1.0, SIZE)
            guided_step = model.sample(encoded.select([0]), SEEDS[:1], 1, GUIDANCE, SIZE)
        drawn = torch.stack(
            [ksampler(patcher, model, PROMPTS[p], s) for p, s in zip(order, SEEDS, strict=True)]
        )
        row["sampling"] = float((x0 - drawn).abs().max())
        row["scale"] = float(x0.abs().mean())
        row["text_width"] = sizes.text_width(patcher.model.model_config.unet_config)
    with torch.inference_mode(False), torch.enable_grad(), model.active():
        row |= gradients(model, encoded.select(order), x0.clone())
        row["counted"] = counted(model, encoded, tuple(x0.shape[1:]))
        row["one_step"] = one_step_difference(model, encoded, one_step, 1.0)
        row["guided_step"] = one_step_difference(model, encoded, guided_step, GUIDANCE)
        row |= exported(patcher, model, encoded.select(order))
    after = patcher.model.state_dict()
    row["unchanged"] = all(
        torch.equal(value, after[key]) and after[key].is_inference()
        for key, value in before.items()
    )
    row["in_training"] = comfy.model_management.in_training
    again = network(family)
    other = NativeFlowModel(again, clip, Autoencoder(again))
    row["same_identity"] = other.identity == model.identity
    return row


def counted(model, encoded, shape):
    """Return the bytes of a training step, counted on the meta device; 0 where that does not work."""
    adapter = AdapterConfig(4, 4.0, "attention+mlp")
    try:
        return counting.peak_of_step(
            model.without_values(), shape, 2, adapter, True, encoded.select([0])
        )
    except Exception:  # as in training/memory.py, which then goes on without
        return 0


def one_step_difference(model, encoded, sampled, guidance):
    """A single Euler step from pure noise ends at the estimate of x0 that the velocity gives.

    With classifier-free guidance, it is that of the guided velocity.
    """
    level = path.highest(model.patcher.get_model_object("model_sampling"))
    noise = torch.randn(sampled.shape[1:], generator=torch.Generator().manual_seed(SEEDS[0]))[None]
    cond = model.with_guidance(encoded.select([0]), guidance)
    with torch.no_grad(), model.graph():
        velocity = model.velocity(level * noise, torch.full((1,), level), cond)
        negative = model.encode_negative("")
        if guidance > 1 and negative is not None:
            away = model.velocity(level * noise, torch.full((1,), level), negative)
            velocity = away + guidance * (velocity - away)
    return float((level * noise - level * velocity - sampled).abs().max())


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
                return flow.velocity_error(model.velocity(x, sigma, cond).double(), target).mean()

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
    for name, tensor in weights.tensors.items():
        scale = weights.scale / again.scale if name.endswith("lora_B") else 1.0
        assert torch.equal(again.tensors[name], scale * tensor)
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
    bypassed = flux.clone()
    bypassed.set_injections("bypass_lora", [object()])
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
        "bypass": refusal(bypassed, TextEncoder(), autoencoder),
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in families:
        row = {"refusals": refusals, "identities": identities, "bundled": bundled}.get(
            name, lambda name=name: measure(name)
        )()
        print("GDRO " + json.dumps(row), flush=True)
