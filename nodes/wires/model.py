"""ComfyUI's MODEL, CLIP and VAE as a FlowModel: its samplers, memory management and offloading."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.ops
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import torch
from torch import Tensor, nn

from ...gdro_comfy.data.conditioning import Conditioning, StructuredConditioning
from ...gdro_comfy.data.runs import SamplerChoice
from ...gdro_comfy.errors import InputError
from ...gdro_comfy.models import counting
from ...gdro_comfy.models.base import AdapterConfig, StepCallback, seeded_noise, without_graph
from . import checks, identity, layers, path, probe, sizes
from .adapters import Adapters, linear_layers, saveable_weights, training_mode
from .conditioning import calls, detached, on_device, values, with_values
from .recompute import recomputed_blocks

if TYPE_CHECKING:
    from ...gdro_comfy.data.lora_weights import LoRAWeights
    from ...gdro_comfy.data.prompts import Prompt
    from ...gdro_comfy.models.base import LoRAFile
    from ...gdro_comfy.progress import Progress

_SAME_FOR_EVERY_BATCH = frozenset(
    {
        "euler", "heun", "heunpp2", "exp_heun_2_x0", "dpm_2", "lms", "dpmpp_2m", "ipndm", "ipndm_v",
        "deis", "res_multistep", "gradient_estimation", "ddim", "uni_pc", "uni_pc_bh2",
    }
)  # fmt: skip
"""Samplers that draw no noise of their own and treat every image of a batch alike."""


class NativeFlowModel:
    """The model on the wires.

    Args:
        model, clip, vae: from ComfyUI's wires; never changed, but for what a context puts back.

    Raises:
        InputError: they cannot be aligned, or do not belong together.
    """

    def __init__(self, model: Any, clip: Any, vae: Any) -> None:
        checks.check_model(model)
        checks.check_vae(model, vae)
        checks.tell_variants(model)
        self.patcher, self.clip, self.vae = model, clip, vae
        self.base = model.model
        self.network: nn.Module = model.model.diffusion_model
        self.identity = identity.of_wires(model, clip, vae)
        self.merged: tuple[str, ...] = ()
        self.title = self.identity["pipeline"]
        self.architecture = self.title.lower()
        self.base_version = self.title.lower()
        self.device = model.load_device
        self.dtype = model.model.get_dtype_inference()
        probe.check_gradients(self.network, self.dtype, self.device)
        layers.targets(self.network, "attention", self.title)
        self.key_prefix = "diffusion_model."
        self.weights_may_stay_out = True
        self.quantizations: dict[str, float] = {}
        self._config = model.model.model_config.unet_config
        self.latent_downscale = sizes.downscale(vae, model)
        self.size_multiple = self.latent_downscale * sizes.patch_side(self._config, self.network)
        self.default_size = getattr(vae, "default_size", (1024, 1024))
        self.latent_scale = (1.0, 0.0)
        self._adapters: Adapters | None = None
        self._recomputed = False
        self._reserved = 0
        self._released = False
        self._negative: dict[str, Any] = {}

    @property
    def default_guidance(self) -> float:
        # What ComfyUI takes for a CONDITIONING without FluxGuidance.
        return 3.5 if self._guidance_is_embedded else 1.0

    def as_recorded(self, identity: Mapping[str, Any]) -> NativeFlowModel:
        return self

    @property
    def noise_shift(self) -> float | None:
        return getattr(self._sampling, "shift", None)

    @property
    def _sampling(self) -> Any:
        return self.patcher.get_model_object("model_sampling")

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        with torch.inference_mode(False):
            yield

    def resolve_sampler(self, sampler: SamplerChoice | None, guidance: float) -> SamplerChoice:
        """Return the sampler to use, ComfyUI's "euler" and "simple" unless others are chosen."""
        chosen = sampler or SamplerChoice()
        names = {
            "sampler": (chosen.name, comfy.samplers.KSampler.SAMPLERS),
            "scheduler": (chosen.scheduler, comfy.samplers.KSampler.SCHEDULERS),
        }
        for input_name, (name, known) in names.items():
            if name not in known:
                raise InputError(
                    input_name, f"{name!r} is unknown", f"Use one of: {', '.join(known)}."
                )
        if chosen.negative_prompt and (self._guidance_is_embedded or guidance <= 1):
            reason = (
                "this model has its guidance built in and reads no negative prompt"
                if self._guidance_is_embedded
                else f"guidance {guidance:g} does not use one"
            )
            raise InputError(
                "negative_prompt", reason, "Leave it empty, or use a guidance above 1."
            )
        return chosen

    def batch_size(self, size: tuple[int, int]) -> int:
        """Return how many images ComfyUI expects to fit beside the network, 1 to 64."""
        shape = [1, *self._empty_latent(size).shape[1:]]
        need = self.patcher.model.memory_required(shape, cond_shapes={})
        free = comfy.model_management.get_free_memory(self.device)
        spare = free - self.patcher.model_size() * (self.device.type != "cpu")
        pixels = max(1, min(64, 64 * 64 * 64 // (size[0] * size[1])))
        return pixels if self.device.type == "cpu" else max(1, min(16, int(spare / (1.5 * need))))

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Accept any text: ComfyUI's text encoders read prompts of any length, in parts."""

    @without_graph
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        encoded = []
        for prompt in prompts:
            comfy.model_management.throw_exception_if_processing_interrupted()
            encoded.append(self._encode_text(prompt.text))
        checks.check_conditioning(sizes.text_width(self._config), encoded[0])
        return StructuredConditioning(tuple(encoded))

    def _encode_text(self, text: str) -> list[Any]:
        """Encode a prompt as CLIP Text Encode does, onto the CPU."""
        conditioning = self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))
        return [detached(item) for item in conditioning]

    @without_graph
    def encode_negative(self, text: str) -> Conditioning | None:
        if self._guidance_is_embedded:
            return None
        return StructuredConditioning((self._encoded_negative(text),))

    @property
    def _guidance_is_embedded(self) -> bool:
        return bool(self._config.get("guidance_embed"))

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        if not self._guidance_is_embedded:
            return cond
        return StructuredConditioning(
            tuple(
                [[tokens, {**options, "guidance": guidance}] for tokens, options in value]
                for value in values(cond)
            )
        )

    @without_graph
    def sample(
        self,
        cond: Conditioning,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        size: tuple[int, int],
        on_step: StepCallback | None = None,
        sampler: SamplerChoice | None = None,
    ) -> Tensor:
        chosen = self.resolve_sampler(sampler, guidance)
        cfg = 1.0 if self._guidance_is_embedded else guidance
        positive = values(self.with_guidance(cond, guidance))
        negative = self._encoded_negative(chosen.negative_prompt)
        deterministic = chosen.name in _SAME_FOR_EVERY_BATCH
        latents: list[Tensor | None] = [None] * len(seeds)
        jobs = calls(positive, together=deterministic)
        for number, (indices, prompt) in enumerate(jobs):
            empty = self._empty_latent(size, len(indices))
            noise = seeded_noise([seeds[i] for i in indices], empty.shape[1:])

            def callback(
                step: int, x0: Tensor, x: Tensor, total: int, number: int = number
            ) -> None:
                comfy.model_management.throw_exception_if_processing_interrupted()
                if on_step is not None:
                    on_step(number * total + step + 1, len(jobs) * total, x0)

            samples = comfy.sample.sample(
                self.patcher, noise, steps, cfg, chosen.name, chosen.scheduler, prompt, negative, empty,
                callback=callback, disable_pbar=True, seed=seeds[indices[0]],
            )  # fmt: skip
            samples = self.patcher.model.process_latent_in(samples.float())
            for index, latent in zip(indices, samples, strict=True):
                latents[index] = latent
        return (
            torch.stack([latent for latent in latents if latent is not None])
            .clone()
            .to(self.device)
        )

    def _encoded_negative(self, text: str) -> list[Any]:
        if text not in self._negative:
            self._negative[text] = self._encode_text(text)
        return self._negative[text]

    def _empty_latent(self, size: tuple[int, int], count: int = 1) -> Tensor:
        """Return zeros of the shape that the network samples at."""
        width, height = (side // self.latent_downscale for side in size)
        channels = self.patcher.get_model_object("latent_format").latent_channels
        return comfy.sample.fix_empty_latent_channels(
            self.patcher, torch.zeros(count, channels, height, width)
        )

    @without_graph
    def decode(self, latents: Tensor) -> Tensor:
        samples = self.patcher.model.process_latent_out(latents.float().cpu())
        images = self.vae.decode(samples)
        if images.ndim == 5:
            images = images.reshape(-1, *images.shape[-3:])
        return images.float().cpu().clone()

    @without_graph
    def encode_images(self, images: Tensor) -> Tensor:
        latents = self.vae.encode(images[..., :3])
        latents = comfy.sample.fix_empty_latent_channels(self.patcher, latents)
        return self.patcher.model.process_latent_in(latents.float()).clone().to(self.device)

    def told_sigma(self, sigma: Tensor) -> Tensor:
        return sigma  # ComfyUI keeps noise levels in float32

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        if self._released:
            self._load()
        parts: list[Tensor | None] = [None] * len(x)
        for indices, prompt in calls(values(cond), together=True):
            latents, levels = x[indices], sigma[indices].float()
            conditions = self._conditions(prompt, latents)
            scaled, own_levels, levels = path.to_model(self._sampling, latents.clone(), levels)
            denoised = self.base.apply_model(
                scaled,
                own_levels,
                transformer_options=self._transformer_options(own_levels),
                **conditions,
            )
            shaped = levels.reshape(-1, *(1,) * (latents.ndim - 1))
            velocity = (latents.float() - denoised.float()) / shaped
            for index, row in zip(indices, velocity, strict=True):
                parts[index] = row
        return torch.stack([part for part in parts if part is not None])

    def _conditions(self, prompt: list[Any], latents: Tensor) -> dict[str, Any]:
        """Return what ``apply_model`` takes for a prompt and a batch of latents."""
        # Counted passes have no values, which some families look at here.
        prompt, like = with_values([prompt, latents])
        conds = comfy.samplers.encode_model_conds(
            self.base.extra_conds,
            comfy.sampler_helpers.convert_cond(prompt),
            like,
            like.device,
            "positive",
        )
        processed = {
            key: value.process_cond(batch_size=len(latents), area=None).cond
            for key, value in conds[0]["model_conds"].items()
        }
        return {key: on_device(value, latents.device) for key, value in processed.items()}

    def _transformer_options(self, sigma: Tensor) -> dict[str, Any]:
        options = dict(self.patcher.model_options.get("transformer_options", {}))
        return {**options, "cond_or_uncond": [0], "sigmas": sigma, "sample_sigmas": sigma}

    @contextlib.contextmanager
    def graph(self) -> Iterator[None]:
        """Load the network and use differentiable kernels within this context."""
        self._load()
        # Blocks add residuals in place. Those that are recomputed guard what they save themselves.
        guard = contextlib.nullcontext() if self._recomputed else counting.mutation_guard()
        with training_mode(), saveable_weights(self.network), guard:
            yield

    @contextlib.contextmanager
    def adapters(
        self, config: AdapterConfig, seed: int = 0
    ) -> Iterator[dict[str, torch.nn.Parameter]]:
        modules = linear_layers(self.network)
        generator = torch.Generator().manual_seed(seed)
        parameters: dict[str, nn.Parameter] = {}
        with torch.inference_mode(False):
            for name in self.adapter_modules(config.target):
                rows, columns = layers.shape(modules[name])
                bound = columns**-0.5
                down = torch.empty(config.rank, columns).uniform_(
                    -bound, bound, generator=generator
                )
                parameters[f"{name}.lora_A"] = nn.Parameter(down.to(self.device))
                parameters[f"{name}.lora_B"] = nn.Parameter(
                    torch.zeros(rows, config.rank, device=self.device)
                )
        with self._attached(parameters, config.alpha / config.rank):
            yield parameters

    @contextlib.contextmanager
    def _attached(self, tensors: dict[str, Any], scale: float) -> Iterator[None]:
        if self._adapters is not None:
            raise RuntimeError("an adapter is attached already")
        self._load()
        self._adapters = Adapters(self.network, scale)
        try:
            with self._adapters.attached(tensors):
                yield
        finally:
            self._adapters = None

    def _load(self) -> None:
        """Bring the network to the device, or as much of it as leaves what was reserved."""
        if self.device != counting.META:
            comfy.model_management.load_models_gpu([self.patcher], memory_required=self._reserved)
        self._released = False

    def adapter_modules(self, target: str) -> list[str]:
        return layers.targets(self.network, target, self.title)

    @contextlib.contextmanager
    def reference(self) -> Iterator[None]:
        if self._adapters is None:
            yield
            return
        before, self._adapters.enabled = self._adapters.enabled, False
        try:
            yield
        finally:
            self._adapters.enabled = before

    @contextlib.contextmanager
    def with_lora(self, weights: LoRAWeights, strength: float = 1.0) -> Iterator[None]:
        with torch.inference_mode(False):
            tensors = {name: tensor.to(self.device) for name, tensor in weights.tensors.items()}
        with self._attached(tensors, weights.scale * strength):
            yield

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        return {name: layers.shape(module) for name, module in linear_layers(self.network).items()}

    def prepare(
        self, host: Progress, loras: Sequence[LoRAFile] = (), quantization: str = "none"
    ) -> None:
        if loras:
            raise InputError(
                "loras", "a LoRA goes onto the MODEL", "Use a LoRA loader before this node."
            )
        if quantization != "none":
            raise InputError(
                "quantization", "the loader decides it", "Load a smaller file instead."
            )

    @contextlib.contextmanager
    def checkpointed(self, on: bool = True) -> Iterator[None]:
        self._recomputed = on
        try:
            with recomputed_blocks(self.network) if on else contextlib.nullcontext():
                yield
        finally:
            self._recomputed = False

    def compiled(self, on: bool = True) -> AbstractContextManager[None]:
        if on:
            raise InputError("torch_compile", "it is for diffusers models", "Turn it off.")
        return contextlib.nullcontext()

    def without_values(self) -> NativeFlowModel:
        twin = copy.copy(self)
        twin.device, twin._adapters, twin._recomputed = counting.META, None, False
        twin.network = counting.without_values(
            self.network, self.dtype, comfy.ops.manual_cast.Linear
        )
        twin.base = copy.copy(self.base)
        twin.base._modules = {**self.base._modules, "diffusion_model": twin.network}
        return twin

    def release(self) -> None:
        comfy.model_management.unload_all_models()
        self._released = True

    def reserve(self, in_bytes: int) -> None:
        self._reserved = in_bytes

    def weights_in_bytes(self) -> int:
        return int(self.patcher.model_size())

    def network_weights(self) -> dict[str, Tensor]:
        raise InputError("model", "it is a ComfyUI MODEL already", "Use the MODEL from the wire.")

    def text_tensors(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        value = values(cond)[0][0]
        return value[0], value[1]["pooled_output"]
