"""Train on wires in ComfyUI's Python, and print what was measured, a line of JSON each.

Run in ComfyUI's checkout: python native_training.py PACK NAME...
"""

import contextlib
import json
import tempfile
from pathlib import Path

from inside_comfyui import arguments  # isort: skip

import comfy.model_management
import comfy.sd
import numpy as np
import torch
from gdro_pack.gdro_comfy.data.lora_weights import LoRAWeights
from gdro_pack.gdro_comfy.data.prompts import from_text
from gdro_pack.gdro_comfy.headless.console_host import ConsoleHost
from gdro_pack.gdro_comfy.lora import files as lora_files
from gdro_pack.gdro_comfy.models import counting, flow, loading
from gdro_pack.gdro_comfy.models.base import AdapterConfig, seeded_noise
from gdro_pack.gdro_comfy.progress import Cancelled
from gdro_pack.gdro_comfy.rewards.base import RewardResult
from gdro_pack.gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_pack.gdro_comfy.rollouts.scoring import score_rollout
from gdro_pack.gdro_comfy.training.config import TrainConfig
from gdro_pack.gdro_comfy.training.objectives import GDRO
from gdro_pack.gdro_comfy.training.train import train
from gdro_pack.nodes import native
from gdro_pack.nodes.wires import identity
from gdro_pack.nodes.wires.model import NativeFlowModel
from live_bytes import LiveBytes
from native_networks import GUIDANCE, PROMPTS, Autoencoder, TextEncoder, network

TRAINED_ON = from_text("one red circle\ntwo blue squares\nthree green stars\none yellow star")
ADAPTER = AdapterConfig(8, 8.0, "attention+mlp")


def memory(family):
    """The counted peak of a step beside the real one."""
    patcher = network(family)
    with torch.inference_mode():
        model = NativeFlowModel(patcher, TextEncoder(), Autoencoder(patcher))
    ratio = {}
    with torch.inference_mode(False), torch.enable_grad(), model.active():
        cond = model.with_guidance(model.encode(PROMPTS[:1]), GUIDANCE)
        shape = tuple(model._empty_latent((256, 256)).shape[1:])
        x, sigma = seeded_noise([0, 1], shape), torch.full((2,), 0.5)
        for recomputed in (False, True):
            with (
                model.adapters(ADAPTER) as parameters,
                model.checkpointed(recomputed),
                model.graph(),
            ):
                frozen = [*model.network.parameters(), *model.network.buffers()]
                with LiveBytes([*frozen, *parameters.values()]) as live:
                    velocity = model.velocity(x, sigma, cond.select([0, 0]))
                    flow.velocity_error(velocity, x).mean().backward()
            twin = model.without_values()
            counted = counting.peak_of_step(twin, shape, 2, ADAPTER, recomputed, cond)
            ratio["recomputed" if recomputed else "whole"] = counted / live.peak
    return {"family": family, **ratio}


def merged():
    """The identity of a wire is the same while ComfyUI has a LoRA merged into its weights."""
    flux = network("Flux")
    autoencoder = Autoencoder(flux)
    model = NativeFlowModel(flux, TextEncoder(), autoencoder)
    weights = LoRAWeights(
        {
            f"{name}.{part}": torch.full((2, size), 0.1) if part == "lora_A" else torch.full((size, 2), 0.1)
            for name in model.adapter_modules("attention")
            for part, size in zip(("lora_B", "lora_A"), model.linear_shapes()[name], strict=True)
        },
        2, 2.0,
    )  # fmt: skip
    tensors = lora_files.to_file_keys(weights, model.key_prefix)
    patched, _ = comfy.sd.load_lora_for_models(flux, None, tensors, 1.0, 0)
    name = next(iter(model.adapter_modules("attention")))
    before = flux.model.diffusion_model.get_submodule(name).weight.clone()
    comfy.model_management.load_models_gpu([patched])
    after = flux.model.diffusion_model.get_submodule(name).weight
    identity._known.clear()
    again = NativeFlowModel(flux, TextEncoder(), autoencoder).identity
    return {"merged": not torch.equal(before, after), "same": again == model.identity}


PIPELINES = {
    "Flux2": "Flux2Pipeline", "QwenImage": "QwenImagePipeline", "HiDream": "HiDreamImagePipeline",
}  # fmt: skip


def diffusers_keys():
    """What diffusers' own reader makes of a LoRA of the families whose names it converts."""
    import diffusers

    rows = {}
    for family, pipeline in PIPELINES.items():
        patcher = network(family)
        model = NativeFlowModel(patcher, TextEncoder(), Autoencoder(patcher))
        with model.active(), model.adapters(AdapterConfig(2, 4.0, "attention+mlp")) as parameters:
            weights = LoRAWeights({n: p.detach() for n, p in parameters.items()}, 2, 4.0)
        tensors = lora_files.to_file_keys(weights, model.key_prefix)
        read = getattr(diffusers, pipeline).lora_state_dict(dict(tensors))
        keys = list(read[0] if isinstance(read, tuple) else read)
        rows[family] = [len(tensors), len(keys), sum(k.startswith("transformer.") for k in keys)]
    return rows


class Redness:
    name, range, settings = "redness", (0.0, 1.0), {}

    def check_prompts(self, prompts):
        pass

    def score(self, images, prompts, check_cancelled=lambda: None):
        pixels = np.stack([np.asarray(image) for image in images]).astype(np.float32) / 255
        red = pixels[..., 0].mean((1, 2)) - pixels[..., 1:].mean((1, 2, 3))
        return RewardResult((2 + 2 * red).astype(np.float32))


class Host(ConsoleHost):
    """Cancels at a check of its choice."""

    cancel_at = -1

    def check_cancelled(self):
        self.cancel_at -= 1
        if self.cancel_at == 0:
            raise Cancelled


def config(**changes):
    return TrainConfig(
        **{
            "steps": 20,
            "groups_per_step": 2,
            "learning_rate": 1e-3,
            "adapter": ADAPTER,
            "preview_every": 0,
        }
        | changes
    )


def scored(host, model):
    settings = RolloutConfig(images_per_prompt=4, steps=4, run_name="trial")
    return score_rollout(host, sample_rollout(host, model, TRAINED_ON, settings), Redness())


def aligned(host, model, **changes):
    objective = GDRO(group_size=3, beta=10.0, temperature=0.05, top1_weight=0.5)
    return train(host, model, scored(host, model), objective, config(**changes))


def bundled():
    with torch.inference_mode(False):
        model = loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
        wires = native.parts(model)
    return model, wires


# Layers that both roads have one by one: ComfyUI joins query, key and value, whose LoRA is then another.
PAIRS = {
    "attn.to_out.0": "x_block.attn.proj", "attn.to_add_out": "context_block.attn.proj",
    "ff.net.0.proj": "x_block.mlp.fc1", "ff.net.2": "x_block.mlp.fc2",
    "ff_context.net.0.proj": "context_block.mlp.fc1", "ff_context.net.2": "context_block.mlp.fc2",
}  # fmt: skip


def start_alike(model, names):
    """Have a model train these layers, from values that depend on their order alone."""
    adapters = model.adapters

    @contextlib.contextmanager
    def attached(config, seed=0):
        with adapters(config, seed) as parameters:
            generator = torch.Generator().manual_seed(1)
            with torch.no_grad():
                for name in names:
                    down = parameters[f"{name}.lora_A"]
                    down.copy_(torch.randn(down.shape, generator=generator) * 0.05)
            yield parameters

    model.adapter_modules = lambda target: names
    model.adapters = attached


def roads():
    """The same groups, trained through diffusers and on wires: the velocities of both LoRAs."""
    model, wires = bundled()
    with torch.inference_mode():
        wired = NativeFlowModel(*wires)
    ours = model.linear_shapes()
    pairs = [
        (f"transformer_blocks.{block}.{one}", f"joint_blocks.{block}.{other}")
        for block in range(model.transformer.config.num_layers)
        for one, other in PAIRS.items()
        if f"transformer_blocks.{block}.{one}" in ours
    ]
    start_alike(model, [one for one, _ in pairs])
    start_alike(wired, [other for _, other in pairs])
    drawn, sample = {}, model.sample

    def remembered(cond, seeds, *args, **kwargs):
        latents = sample(cond, seeds, *args, **kwargs)
        drawn.update(zip(seeds, latents, strict=True))
        return latents

    model.sample = remembered
    wired.sample = lambda cond, seeds, *args, **kwargs: torch.stack([drawn[s] for s in seeds])
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        loras = [
            aligned(Host(Path(folder), quiet=True), m)
            for folder, m in ((one, model), (other, wired))
        ]
        weights = [lora_files.load(lora.path) for lora in loras]
    x = torch.randn(8, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    sigma, prompts = torch.linspace(0.1, 0.9, 8), list(TRAINED_ON) * 2
    velocities = []
    for m, lora in zip((model, wired), weights, strict=True):
        with torch.no_grad(), m.active():
            cond = m.encode(prompts)
            with m.graph():
                base = m.velocity(x, sigma, cond)
                with m.with_lora(lora):
                    velocities.append(m.velocity(x, sigma, cond))
    one, other = velocities
    return {
        "difference": float((one - other).abs().max()),
        "moved": float((one - base).abs().max()),
        "layers": len(pairs),
    }


def forwards(network):
    return sum("forward" in module.__dict__ for module in network.modules())


def interruptions():
    """A cancel in each stage, then the same wire again; models unloaded between the stages."""
    _, wires = bundled()
    with torch.inference_mode():
        wired = NativeFlowModel(*wires)
    before = {k: v.clone() for k, v in wired.network.state_dict().items()}
    with wired.active():
        cond = wired.encode(list(TRAINED_ON)[:1])

    def image():
        with torch.inference_mode(), wired.active():
            return wired.sample(cond, [5], 4, 1.0, (64, 64))

    def left():
        weights = wired.network.state_dict()
        return {
            "same weights": all(torch.equal(v, weights[k]) for k, v in before.items()),
            "same image": torch.equal(image(), first),
            "hooks": forwards(wired.network),
            "in_training": comfy.model_management.in_training,
        }

    first, rows = image(), []
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder) / "cancelled", quiet=True)
        for cancel_at in (3, 9, 25, 35):
            host.cancel_at = cancel_at
            try:
                aligned(host, wired)
            except Cancelled:
                training = any(Path(folder).glob("cancelled/gdro/*/train/*/config.json"))
                rows.append({"stage": "training" if training else "rollout", **left()})
        comfy.model_management.unload_all_models()
        host.cancel_at = -1
        wired.release()
        resumed = aligned(host, wired)
        rows.append(left())
        with torch.inference_mode():
            second = NativeFlowModel(*wires)
        fresh = Host(Path(folder) / "fresh", quiet=True)
        other = aligned(fresh, second, seed=4)
        whole = aligned(fresh, wired)
        one, again, different = (lora_files.load(a.path).tensors for a in (whole, resumed, other))
        return {
            "rows": rows,
            "resumed": all(torch.equal(one[k], again[k]) for k in one),
            "other": not all(torch.equal(one[k], different[k]) for k in one),
        }


if __name__ == "__main__":
    torch.set_num_threads(1)
    own = {"merged": merged, "roads": roads, "interruptions": interruptions}
    own["diffusers"] = diffusers_keys
    for name in arguments:
        row = own[name]() if name in own else memory(name)
        print("GDRO " + json.dumps(row), flush=True)
