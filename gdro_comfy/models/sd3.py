"""Stable Diffusion 3 and 3.5 behind the FlowModel contract, through diffusers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import InputError
from . import lora_layers
from .base import AdapterConfig, Conditioning, StepCallback, seeded_noise

if TYPE_CHECKING:
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import (
        StableDiffusion3Pipeline,
    )

    from ..prompts import Prompt

_ATTENTION = [
    *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
    *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
]
_MLP = ["ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"]
_T5_LENGTH = 256


class SD3Model:
    """A ``StableDiffusion3Pipeline`` as a FlowModel.

    Args:
        pipeline: loaded outside of inference mode, so that its weights can carry gradients.
        identity: which weights these are.
        device: where to compute.
    """

    architecture = "stable-diffusion-v3"

    def __init__(
        self, pipeline: StableDiffusion3Pipeline, identity: dict[str, Any], device: torch.device
    ) -> None:
        self.pipeline = pipeline
        self.identity = identity
        self.device = device
        self._users = 0
        self.transformer = pipeline.transformer.requires_grad_(False).eval()
        self.vae = pipeline.vae.requires_grad_(False).eval()
        for encoder in (pipeline.text_encoder, pipeline.text_encoder_2, pipeline.text_encoder_3):
            if encoder is not None:
                encoder.requires_grad_(False).eval()
        self.dtype = self.transformer.dtype
        config = self.transformer.config
        side = config.sample_size * pipeline.vae_scale_factor
        self.default_size = (side, side)
        self.size_multiple = pipeline.vae_scale_factor * config.patch_size
        # Where CLIP alone fills the width of the joint attention, the model was made without T5;
        # where T5 is only left out, the pipeline stands zeros in its place.
        clips = (pipeline.text_encoder, pipeline.text_encoder_2)
        without_t5 = sum(clip.config.hidden_size for clip in clips) >= config.joint_attention_dim
        self._t5_length = 0 if pipeline.text_encoder_3 is None and without_t5 else _T5_LENGTH

    @contextmanager
    def active(self) -> Iterator[None]:
        with torch.inference_mode(False):
            self._users += 1
            if self._users == 1:
                self.pipeline.to(self.device)
            try:
                yield
            finally:
                self._users -= 1
                if self._users == 0:
                    self.pipeline.to("cpu")

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Refuse text that the CLIP vocabulary has no tokens for, and text that would be cut off."""
        tokenizer = self.pipeline.tokenizer
        for place, prompt in enumerate(prompts, 1):
            ids = tokenizer(prompt.text, truncation=False)["input_ids"]
            if tokenizer.unk_token_id in ids[1:-1]:
                words = [word for word in prompt.text.split() if self._unreadable(word)]
                raise InputError(
                    "prompts",
                    f"prompt {place} ({prompt.text!r}) has text this model cannot read: "
                    + ", ".join(repr(w) for w in words[:5]),
                    "Use letters, digits and punctuation that the model's tokenizer knows.",
                )
            limit = tokenizer.model_max_length
            if self._t5_length == 0 and len(ids) > limit:
                raise InputError(
                    "prompts",
                    f"prompt {place} ({prompt.text!r}) has {len(ids)} tokens",
                    f"This model reads {limit}, start and end included: shorten the prompt.",
                )

    def _unreadable(self, word: str) -> bool:
        tokenizer = self.pipeline.tokenizer
        ids = tokenizer(word, add_special_tokens=False)["input_ids"]
        return not ids or tokenizer.unk_token_id in ids

    @torch.no_grad()
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        with torch.inference_mode(False):
            text = [prompt.text for prompt in prompts]
            hidden, _, pooled, _ = self.pipeline.encode_prompt(
                text,
                text,
                text,
                device=self.device,
                do_classifier_free_guidance=False,
                max_sequence_length=self._t5_length,
            )
            assert hidden is not None
            assert pooled is not None
            return Conditioning({"hidden": hidden, "pooled": pooled}).to(self.device, self.dtype)

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        return self.transformer(
            hidden_states=x.to(self.dtype),
            encoder_hidden_states=cond.tensors["hidden"],
            pooled_projections=cond.tensors["pooled"],
            timestep=sigma.to(self.device) * 1000,
            return_dict=False,
        )[0]

    @torch.no_grad()
    def sample(
        self,
        cond: Conditioning,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        size: tuple[int, int],
        on_step: StepCallback | None = None,
    ) -> Tensor:
        with torch.inference_mode(False):
            scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)
            width, height = (side // self.pipeline.vae_scale_factor for side in size)
            scheduler.set_timesteps(
                steps, device=self.device, **self._shift(scheduler, width, height)
            )
            sigmas = scheduler.sigmas.to(self.device)
            guided = guidance > 1
            if guided:
                cond = Conditioning.cat([self._empty(len(cond)), cond])
            x = seeded_noise(seeds, (self.transformer.config.in_channels, height, width))
            x = x.to(self.device)
            for step in range(steps):
                sigma, following = sigmas[step], sigmas[step + 1]
                both = torch.cat([x, x]) if guided else x
                v = self.velocity(both, sigma.expand(len(both)), cond).float()
                if guided:
                    away, v = v.chunk(2)
                    v = away + guidance * (v - away)
                if on_step is not None:
                    on_step(step + 1, steps, x - sigma * v)
                x = x + (following - sigma) * v
            return x

    def _shift(self, scheduler, width: int, height: int) -> dict[str, float]:
        """SD3.5 shifts its noise levels by the number of image tokens, where its scheduler says so."""
        if not scheduler.config.get("use_dynamic_shifting"):
            return {}
        from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import (
            calculate_shift,
        )

        patch = self.transformer.config.patch_size
        get = scheduler.config.get
        tokens = (height // patch) * (width // patch)
        mu = calculate_shift(
            tokens,
            get("base_image_seq_len", 256),
            get("max_image_seq_len", 4096),
            get("base_shift", 0.5),
            get("max_shift", 1.16),
        )
        return {"mu": mu}

    def _empty(self, count: int) -> Conditioning:
        from ..prompts import Prompt

        return self.encode([Prompt("")]).select([0] * count)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        with torch.inference_mode(False):
            config = self.vae.config
            z = (
                latents.to(self.device, self.vae.dtype) / config.scaling_factor
                + config.shift_factor
            )
            images = self.vae.decode(z, return_dict=False)[0].float()
            return (images / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).cpu()

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        with torch.inference_mode(False):
            config = self.vae.config
            pixels = images.permute(0, 3, 1, 2).to(self.device, self.vae.dtype) * 2 - 1
            z = self.vae.encode(pixels).latent_dist.mode().float()
            return (z - config.shift_factor) * config.scaling_factor

    @contextmanager
    def adapters(
        self, config: AdapterConfig, seed: int = 0
    ) -> Iterator[dict[str, torch.nn.Parameter]]:
        targets = _ATTENTION + _MLP if config.target == "attention+mlp" else _ATTENTION
        with lora_layers.attached(self.transformer, config, targets, seed) as parameters:
            yield parameters

    @contextmanager
    def reference(self) -> Iterator[None]:
        with lora_layers.disabled(self.transformer):
            yield

    @contextmanager
    def with_lora(self, state: dict[str, Tensor], strength: float = 1.0) -> Iterator[None]:
        with lora_layers.loaded(self.transformer, state, strength):
            yield

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        return {
            name: (module.out_features, module.in_features)
            for name, module in self.transformer.named_modules()
            if isinstance(module, torch.nn.Linear)
        }
