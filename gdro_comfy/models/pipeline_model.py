"""What the families have in common: a diffusers pipeline as a FlowModel."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from ..data.conditioning import Conditioning
from ..errors import InputError
from . import compiling, fingerprints, lora_layers, merging, quantization
from .base import AdapterConfig, StepCallback, seeded_noise, without_graph
from .offload import ENCODERS, NETWORK, VAE, Places, size_in_bytes

if TYPE_CHECKING:
    from ..data.prompts import Prompt
    from ..host import Host
    from .base import Style
    from .families import Family
    from .original_layouts import Names

Field = Callable[[Tensor, Tensor], Tensor]
"""Velocities at ``x [n, c, h, w]`` and ``sigma [n]``."""


class PipelineModel(ABC):
    """A diffusers pipeline behind the contract; a family adds ``encode`` and ``velocity``.

    Args:
        pipeline: loaded outside of inference mode, so that its weights can carry gradients.
        identity: which weights these are.
        device: where to compute.
    """

    family: ClassVar[Family]
    attention: ClassVar[tuple[str, ...]]
    """Ends of the names of the linear layers that "attention" trains."""
    mlp: ClassVar[tuple[str, ...]]
    """Those that "attention+mlp" trains beside them."""
    kept_in_block: ClassVar[int]
    """Numbers that a block keeps for the backward pass, per token and unit of width."""
    longest_shift: ClassVar[float]
    """The shift of the noise levels at 4096 tokens where the schedule does not say."""
    text_tokens: int
    """Tokens of text beside those of the image."""
    latent_channels: int
    architecture: str
    default_size: tuple[int, int]
    size_multiple: int

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
        self._encoders = [e.requires_grad_(False).eval() for e in encoders if e is not None]
        parts = {NETWORK: [self.transformer], ENCODERS: self._encoders, VAE: [self.vae]}
        self._places = Places(parts, device)
        self.dtype = self.transformer.dtype
        self.latent_scale = (self.vae.config.scaling_factor, self.vae.config.shift_factor)

    @property
    def noise_shift(self) -> float | None:
        schedule = self.pipeline.scheduler.config
        return None if schedule.get("use_dynamic_shifting") else schedule.shift

    @contextmanager
    def active(self) -> Iterator[None]:
        with torch.inference_mode(False), self._places.active():
            yield

    def _check_text(
        self, prompts: Sequence[Prompt], tokenizer: Any, limit: int | None = None
    ) -> None:
        """Refuse text that a tokenizer has no tokens for, and (with a limit) text that would be cut
        off. The limit counts start and end."""
        for place, prompt in enumerate(prompts, 1):
            inside = tokenizer(prompt.text, add_special_tokens=False, truncation=False)["input_ids"]
            if tokenizer.unk_token_id in inside:
                words = [word for word in prompt.text.split() if _unreadable(tokenizer, word)]
                raise InputError(
                    "prompts",
                    f"prompt {place} ({prompt.text!r}) has text this model cannot read: "
                    + ", ".join(repr(w) for w in words[:5]),
                    "Use letters, digits and punctuation that the model's tokenizer knows.",
                )
            length = len(tokenizer(prompt.text, truncation=False)["input_ids"])
            if limit is not None and length > limit:
                raise InputError(
                    "prompts",
                    f"prompt {place} ({prompt.text!r}) has {length} tokens",
                    f"This model reads {limit}, start and end included: shorten the prompt.",
                )

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        """Guidance stands outside of the network, unless the family says otherwise."""
        return cond

    @abstractmethod
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning: ...

    @abstractmethod
    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor: ...

    def field(self, cond: Conditioning, guidance: float) -> Field:
        """The velocities that ``sample`` follows, in float32."""
        return lambda x, sigma: self.velocity(x, sigma, cond).float()

    def spaced(self, steps: int) -> Any:
        """Noise levels before they are shifted; None leaves them to the schedule."""
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
    ) -> Tensor:
        scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
        tokens = math.prod(side // self.size_multiple for side in size)
        shift = dynamic_shift(scheduler, tokens, self.longest_shift)
        scheduler.set_timesteps(steps, device=self.device, sigmas=self.spaced(steps), **shift)
        sigmas = scheduler.sigmas.to(self.device)
        width, height = (side // self.pipeline.vae_scale_factor for side in size)
        x = seeded_noise(seeds, (self.latent_channels, height, width)).to(self.device)
        velocity = self.field(cond, guidance)
        for step in range(steps):
            sigma, following = sigmas[step], sigmas[step + 1]
            v = velocity(x, sigma.expand(len(x)))
            if on_step is not None:
                on_step(step + 1, steps, x - sigma * v)
            x = x + (following - sigma) * v
        return x

    @without_graph
    def decode(self, latents: Tensor) -> Tensor:
        with self._places.using(VAE):
            scale, shift = self.latent_scale
            z = latents.to(self.device, self.vae.dtype) / scale + shift
            images = self.vae.decode(z, return_dict=False)[0].float()
            return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()

    @without_graph
    def encode_images(self, images: Tensor) -> Tensor:
        with self._places.using(VAE):
            scale, shift = self.latent_scale
            pixels = images.permute(0, 3, 1, 2).to(self.device, self.vae.dtype) * 2 - 1
            z = self.vae.encode(pixels).latent_dist.mode().float()
            return (z - shift) * scale

    @contextmanager
    def adapters(
        self, config: AdapterConfig, seed: int = 0
    ) -> Iterator[dict[str, torch.nn.Parameter]]:
        self._places.bring(NETWORK)
        found = self.adapter_modules(config.target)
        with lora_layers.attached(self.transformer, config, found, seed) as parameters:
            yield parameters

    def adapter_modules(self, target: str) -> list[str]:
        ends = self.attention + self.mlp if target == "attention+mlp" else self.attention
        return [n for n in self.linear_shapes() if any(n.endswith(f".{end}") for end in ends)]

    @contextmanager
    def reference(self) -> Iterator[None]:
        with lora_layers.disabled(self.transformer):
            yield

    @contextmanager
    def with_lora(self, state: dict[str, Tensor], strength: float = 1.0) -> Iterator[None]:
        self._places.bring(NETWORK)
        with lora_layers.loaded(self.transformer, state, strength):
            yield

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        return {
            name: (module.out_features, module.in_features)
            for name, module in self.transformer.named_modules()
            if isinstance(module, torch.nn.Linear)
        }

    @abstractmethod
    def original_names(self) -> Names:
        """What the original files call the network's modules."""

    def merge(self, host: Host, style: Style) -> None:
        merging.merge(host, self.transformer, self.original_names(), self.family, style)
        this = [fingerprints.of_file(style.path), style.strength]
        self.identity = {**self.identity, "loras": [*self.identity.get("loras", ()), this]}
        self.merged = (*self.merged, f"{style.path.name} at strength {style.strength:g}")

    def quantize(self, host: Host, how: str) -> None:
        quantization.quantize(host, self.transformer, how, self.device)

    @contextmanager
    def checkpointed(self, on: bool = True) -> Iterator[None]:
        before = self.transformer.gradient_checkpointing
        if on:
            self.transformer.enable_gradient_checkpointing()
        try:
            yield
        finally:
            if not before:
                self.transformer.disable_gradient_checkpointing()

    def compiled(self, on: bool = True) -> AbstractContextManager[None]:
        return compiling.blocks(self.transformer, self.device) if on else nullcontext()

    def activations_in_bytes(self, size: tuple[int, int], checkpointed: bool) -> int:
        """Tokens x width x blocks, with what a block keeps: measured with torch's hooks on saved
        tensors, LoRA on attention and MLP, and attention that keeps no scores."""
        config = self.transformer.config
        width = config.num_attention_heads * config.attention_head_dim
        patch = self.pipeline.vae_scale_factor * 2
        tokens = (size[0] // patch) * (size[1] // patch) + self.text_tokens
        blocks = config.num_layers + config.get("num_single_layers", 0)
        inside = self.kept_in_block * tokens * width * self.dtype.itemsize
        between = 5 * tokens * width * self.dtype.itemsize // 4
        return inside + blocks * between if checkpointed else blocks * inside

    def weights_in_bytes(self) -> int:
        return size_in_bytes([self.transformer])

    def network_weights(self) -> dict[str, Tensor]:
        weights = self.transformer.state_dict()
        if not all(weight.is_floating_point() for weight in weights.values()):
            raise InputError(
                "model",
                "it is quantized, which other programs do not read",
                "Load it with quantization none.",
            )
        return {name: weight.to("cpu", copy=True) for name, weight in weights.items()}

    def text_tensors(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        return cond.tensors["hidden"], cond.tensors["pooled"]


def _unreadable(tokenizer: Any, word: str) -> bool:
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return not ids or tokenizer.unk_token_id in ids


def dynamic_shift(scheduler: Any, tokens: int, longest: float) -> dict[str, float]:
    """``mu`` for schedulers that shift their noise levels by the number of image tokens; nothing for
    those that do not. ``longest`` is the shift at 4096 tokens where the scheduler does not say."""
    if not scheduler.config.get("use_dynamic_shifting"):
        return {}
    get = scheduler.config.get
    first, last = get("base_image_seq_len", 256), get("max_image_seq_len", 4096)
    low, high = get("base_shift", 0.5), get("max_shift", longest)
    slope = (high - low) / (last - first)
    return {"mu": tokens * slope + low - slope * first}
