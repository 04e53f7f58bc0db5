"""A diffusers pipeline as a ``FlowModel``: what the families have in common."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..data.conditioning import Conditioning, tensors_of
from ..data.identity import TEXT_TOKENS
from ..errors import InputError
from . import (
    batching,
    compiling,
    counting,
    fingerprints,
    lora_layers,
    merging,
    preparing,
    prompt_checks,
    text_lengths,
)
from . import quantization as quantizing
from .base import AdapterConfig, StepCallback, seeded_noise, without_graph
from .offload import ENCODERS, NETWORK, VAE, Offloader, size_in_bytes
from .stored_weights import plain_state
from .text_lengths import TextLengths

if TYPE_CHECKING:
    from ..data.lora_weights import LoRAWeights
    from ..data.prompts import Prompt
    from ..data.runs import SamplerChoice
    from ..progress import Progress
    from .base import LoRAFile
    from .families import Family
    from .original_layouts import Names

VelocityField = Callable[[Tensor, Tensor], Tensor]
"""Returns the velocities at ``x`` ``[n, c, h, w]`` and ``sigma`` ``[n]``."""


class PipelineModel(ABC):
    """The base class of the families that diffusers has a pipeline for.

    A subclass has to give the class attributes below, the attributes that depend on the pipeline's
    configuration, ``check_prompts``, ``encode_at``, ``velocity_at`` and ``original_names``.

    Args:
        pipeline: loaded outside of inference mode, so that gradients can pass through its weights.
        identity: see ``FlowModel.identity``.
        device: where to compute.
    """

    family: ClassVar[Family]
    attention: ClassVar[tuple[str, ...]]
    """Suffixes of the module names that the target "attention" trains."""
    mlp: ClassVar[tuple[str, ...]]
    """Suffixes of those that "attention+mlp" trains in addition."""
    default_max_shift: ClassVar[float]
    """The shift of the noise levels at 4096 image tokens, for schedulers that do not give it."""
    text_tokens: int
    """Length of a short text, in tokens, all that the network reads."""
    text_lengths: TextLengths
    """Of T5's part of it."""
    t5_tokenizer: str
    """The pipeline's component."""
    latent_channels: int
    """Channels of the latents outside of the network."""
    architecture: str
    default_size: tuple[int, int]
    size_multiple: int
    key_prefix = "transformer."
    weights_may_stay_out = False

    def __init__(self, pipeline: Any, identity: dict[str, Any], device: torch.device) -> None:
        self.pipeline = pipeline
        self.identity = identity
        self.device = device
        self.merged: tuple[str, ...] = ()
        self.title = self.family.title
        self.base_version = self.family.base_version
        self.transformer = pipeline.transformer.requires_grad_(False).eval()
        self.vae = pipeline.vae.requires_grad_(False).eval()
        names = ("text_encoder", "text_encoder_2", "text_encoder_3")
        encoders = [getattr(pipeline, name, None) for name in names]
        frozen = [e.requires_grad_(False).eval() for e in encoders if e is not None]
        components = {NETWORK: [self.transformer], ENCODERS: frozen, VAE: [self.vae]}
        self._offloader = Offloader(components, device)
        self._pass_sizes: dict[tuple[int, int], int] = {}
        self.dtype = self.transformer.dtype
        self.latent_downscale: int = pipeline.vae_scale_factor
        self.latent_scale = (self.vae.config.scaling_factor, self.vae.config.shift_factor)

    @property
    def default_guidance(self) -> float:
        return 1.0

    @property
    def noise_shift(self) -> float | None:
        config = self.pipeline.scheduler.config
        return None if config.get("use_dynamic_shifting") else config.shift

    def resolve_sampler(self, sampler: SamplerChoice | None, guidance: float) -> None:
        """Refuse any choice: the family's scheduler samples with Euler's method."""
        if sampler is not None:
            raise InputError(
                "sampler",
                f"this model samples with Euler's method only, not with {sampler.name!r}",
                "Leave sampler, scheduler and negative prompt as they are, or connect the model through "
                "GDRO Model from ComfyUI.",
            )

    def batch_size(self, size: tuple[int, int]) -> int:
        def per_image() -> int:
            if size not in self._pass_sizes:
                self._pass_sizes[size] = batching.pass_in_bytes(self, size)
            return self._pass_sizes[size]

        away = 0 if self._offloader.is_on_device(NETWORK) else self.weights_in_bytes()
        return batching.images_at_once(size, self.device, away, per_image)

    def graph(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def active(self) -> Iterator[None]:
        with torch.inference_mode(False), self._offloader.active():
            yield

    def _check_text(
        self, prompts: Sequence[Prompt], readers: Sequence[prompt_checks.Reader], cut: int
    ) -> None:
        """Refuse text that the encoders cannot read, or would cut off, and say what they confuse.

        Args:
            readers: the tokenizers and their lengths.
            cut: the number of readers, from the first, that may cut a prompt off.
        """
        for number, (tokenizer, limit) in enumerate(readers):
            prompt_checks.check_signs(prompts, tokenizer)
            if number >= cut:
                prompt_checks.check_lengths(prompts, tokenizer, limit)
        prompt_checks.say_which_are_alike(prompts, readers)
        prompt_checks.say_what_is_literal(prompts)

    def encode_negative(self, text: str) -> Conditioning | None:
        return None

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        return cond

    def as_recorded(self, identity: Mapping[str, Any]) -> PipelineModel:
        if not identity or TEXT_TOKENS in identity or TEXT_TOKENS not in self.identity:
            return self
        before = copy.copy(self)
        before._pass_sizes = {}
        before.identity = {k: v for k, v in self.identity.items() if k != TEXT_TOKENS}
        before._read_text(self.text_lengths.of_version_before())
        return before

    def _read_text(self, lengths: TextLengths) -> None:
        """Set the lengths of T5's text."""
        self.text_tokens += lengths.at_least - self.text_lengths.at_least
        self.text_lengths = lengths

    @without_graph
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        texts = [prompt.text for prompt in prompts]
        tokenizer = getattr(self.pipeline, self.t5_tokenizer)
        with self._offloader.onloaded(ENCODERS):
            by_length = self.text_lengths.by_length(texts, tokenizer)
            return text_lengths.encode(texts, by_length, self.encode_at).to(self.device, self.dtype)

    @abstractmethod
    def encode_at(self, texts: Sequence[str], length: int) -> Conditioning:
        """Encode texts with T5's text padded to a length in tokens."""

    def told_sigma(self, sigma: Tensor) -> Tensor:
        return sigma

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        self._offloader.onload(NETWORK)
        return text_lengths.velocity(x, sigma, cond, self.velocity_at)

    @abstractmethod
    def velocity_at(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """Predict the velocity for prompts of one length."""

    def velocity_field(self, cond: Conditioning, guidance: float) -> VelocityField:
        """Return the velocities that ``sample`` integrates, in float32."""
        return lambda x, sigma: self.velocity(x, sigma, cond).float()

    def unshifted_sigmas(self, steps: int) -> Any:
        """Return the noise levels before the shift ``[steps]``; None leaves them to the scheduler."""
        return None

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
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        tokens = math.prod(side // self.size_multiple for side in size)
        shift = dynamic_shift(scheduler, tokens, self.default_max_shift)
        sigmas = self.unshifted_sigmas(steps)
        scheduler.set_timesteps(steps, device=self.device, sigmas=sigmas, **shift)
        sigmas = scheduler.sigmas.to(self.device)
        width, height = (side // self.pipeline.vae_scale_factor for side in size)
        x = seeded_noise(seeds, (self.latent_channels, height, width)).to(self.device)
        velocity = self.velocity_field(cond, guidance)
        for step in range(steps):
            sigma, next_sigma = sigmas[step], sigmas[step + 1]
            v = velocity(x, sigma.expand(len(x)))
            if on_step is not None:
                on_step(step + 1, steps, x - sigma * v)
            x = x + (next_sigma - sigma) * v
        return x

    @without_graph
    def decode(self, latents: Tensor) -> Tensor:
        with self._offloader.onloaded(VAE):
            scale, shift = self.latent_scale
            z = latents.to(self.device, self.vae.dtype) / scale + shift
            images = self.vae.decode(z, return_dict=False)[0].float()
            return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()

    @without_graph
    def encode_images(self, images: Tensor) -> Tensor:
        with self._offloader.onloaded(VAE):
            scale, shift = self.latent_scale
            pixels = images.permute(0, 3, 1, 2).to(self.device, self.vae.dtype) * 2 - 1
            z = self.vae.encode(pixels).latent_dist.mode().float()
            return (z - shift) * scale

    @contextmanager
    def adapters(
        self, config: AdapterConfig, seed: int = 0
    ) -> Iterator[dict[str, torch.nn.Parameter]]:
        self._offloader.onload(NETWORK)
        modules = self.adapter_modules(config.target)
        with lora_layers.attached(self.transformer, config, modules, seed) as parameters:
            yield parameters

    def adapter_modules(self, target: str) -> list[str]:
        names = self.attention + self.mlp if target == "attention+mlp" else self.attention
        suffixes = tuple(f".{name}" for name in names)
        return [name for name in self.linear_shapes() if name.endswith(suffixes)]

    @contextmanager
    def reference(self) -> Iterator[None]:
        with lora_layers.disabled(self.transformer):
            yield

    @contextmanager
    def with_lora(self, weights: LoRAWeights, strength: float = 1.0) -> Iterator[None]:
        self._offloader.onload(NETWORK)
        with lora_layers.loaded(self.transformer, weights, strength):
            yield

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        return {
            name: (module.out_features, module.in_features)
            for name, module in self.transformer.named_modules()
            if isinstance(module, torch.nn.Linear)
        }

    @abstractmethod
    def original_names(self) -> Names:
        """Return the names of the network's modules in the original files."""

    def prepare(
        self, host: Progress, loras: Sequence[LoRAFile] = (), quantization: str = "none"
    ) -> None:
        quantizing.check(quantization, self.device)
        plans = [
            merging.plan(self.transformer, self.original_names(), self.family, lora)
            for lora in loras
        ]
        updates = [update for update, _ in plans]
        preparing.prepare(host, self.transformer, updates, quantization, self.device)
        if quantization != "none":
            self.identity = {**self.identity, "quantization": quantization}
        for lora, (_, scale) in zip(loras, plans, strict=True):
            # A scale from beside the tensors makes another base of the same file.
            record = [fingerprints.of_file(lora.path), lora.strength, *([scale] if scale else [])]
            self.identity = {**self.identity, "loras": [*self.identity.get("loras", ()), record]}
            words = f" ({scale})" if scale else ""
            self.merged = (*self.merged, f"{lora.path.name} at strength {lora.strength:g}{words}")

    @contextmanager
    def checkpointed(self, on: bool = True) -> Iterator[None]:
        was_on = self.transformer.gradient_checkpointing
        if on:
            self.transformer.enable_gradient_checkpointing()
        try:
            yield
        finally:
            if not was_on:
                self.transformer.disable_gradient_checkpointing()

    def compiled(self, on: bool = True) -> AbstractContextManager[None]:
        return compiling.compiled_blocks(self.transformer, self.device) if on else nullcontext()

    def without_values(self) -> PipelineModel:
        twin = copy.copy(self)
        twin.device = counting.META
        twin.transformer = counting.without_values(self.transformer, self.dtype)
        twin._offloader = Offloader({}, torch.device("cpu"))
        return twin

    def release(self) -> None:
        self._offloader.release()

    def reserve(self, in_bytes: int) -> None:  # noqa: B027
        """Do nothing: all weights of the network are on the device."""

    @property
    def quantizations(self) -> dict[str, float]:
        """What is smaller than the network is now: a file in fp8 has the size of 8 bits already."""
        layers = [
            self.transformer.get_submodule(name) for name in quantizing.layers(self.transformer)
        ]
        now = sum(size_in_bytes([layer]) for layer in layers)
        in_16_bit = 2 * sum(layer.out_features * layer.in_features for layer in layers)
        whole = self.weights_in_bytes()
        shares = {
            name: (whole - now + share * in_16_bit) / whole
            for name, share in quantizing.SHARES.items()
        }
        return {name: share for name, share in shares.items() if share < 0.95}

    def weights_in_bytes(self) -> int:
        return size_in_bytes([self.transformer])

    def network_weights(self) -> dict[str, Tensor]:
        weights = plain_state(self.transformer)
        if not all(weight.is_floating_point() for weight in weights.values()):
            raise InputError(
                "model",
                "it is quantized, which other programs do not read",
                "Load it with quantization none.",
            )
        return {name: weight.to("cpu", copy=True) for name, weight in weights.items()}

    def text_tensors(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        return tensors_of(cond)["hidden"], tensors_of(cond)["pooled"]


def dynamic_shift(scheduler: Any, tokens: int, default_max_shift: float) -> dict[str, float]:
    """Return ``mu`` for a scheduler whose shift grows with the number of image tokens, else nothing.

    ``mu`` is linear in the tokens, as in diffusers' ``calculate_shift``.

    Args:
        default_max_shift: the shift at 4096 tokens, for a scheduler that does not give it.
    """
    get = scheduler.config.get
    if not get("use_dynamic_shifting"):
        return {}
    low_tokens, high_tokens = get("base_image_seq_len", 256), get("max_image_seq_len", 4096)
    low, high = get("base_shift", 0.5), get("max_shift", default_max_shift)
    slope = (high - low) / (high_tokens - low_tokens)
    return {"mu": tokens * slope + low - slope * low_tokens}
