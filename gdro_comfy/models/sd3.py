"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.conditioning import BatchedConditioning, Conditioning, tensors_of
from .base import without_graph
from .families import SD3
from .offload import ENCODERS, NETWORK
from .original_layouts import Names, sd3_names
from .pipeline_model import PipelineModel, VelocityField

if TYPE_CHECKING:
    from ..data.prompts import Prompt

_T5_LENGTH = 256


class SD3Model(PipelineModel):
    """A ``StableDiffusion3Pipeline`` as a ``FlowModel``."""

    family = SD3
    attention = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    )
    mlp = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")

    default_max_shift = 1.16

    def __init__(self, pipeline: Any, identity: dict[str, Any], device: torch.device) -> None:
        super().__init__(pipeline, identity, device)
        config = self.transformer.config
        side = config.sample_size * pipeline.vae_scale_factor
        self.default_size = (side, side)
        self.latent_channels = config.in_channels
        self.size_multiple = pipeline.vae_scale_factor * config.patch_size
        self.architecture = _architecture(config)
        # If the two CLIPs fill the width of the joint attention, the model was made without T5. If T5 is
        # merely missing, the pipeline puts zeros in place of its tokens.
        clips = (pipeline.text_encoder, pipeline.text_encoder_2)
        without_t5 = sum(clip.config.hidden_size for clip in clips) >= config.joint_attention_dim
        self._t5_length = 0 if pipeline.text_encoder_3 is None and without_t5 else _T5_LENGTH
        self.text_tokens = pipeline.tokenizer_max_length + self._t5_length
        self._empty_prompt: Conditioning | None = None

    def original_names(self) -> Names:
        return sd3_names(self.transformer.config.num_layers)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Check the prompts with CLIP's tokenizer and, if there is one, T5's.

        CLIP may cut a long prompt off only if T5 is loaded and reads all of it.
        """
        clips = (self.pipeline.tokenizer, self.pipeline.tokenizer_2)
        readers = [(clip, clip.model_max_length) for clip in clips]
        cut = 0
        if self.pipeline.text_encoder_3 is not None:
            readers.append((self.pipeline.tokenizer_3, self._t5_length))
            cut = len(clips)
        self._check_text(prompts, readers, cut)

    @without_graph
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        with self._offloader.onloaded(ENCODERS):
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
            return BatchedConditioning({"hidden": hidden, "pooled": pooled}).to(
                self.device, self.dtype
            )

    def encode_negative(self, text: str) -> Conditioning:
        from ..data.prompts import Prompt

        return self.encode([Prompt(text)]).to("cpu")

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        self._offloader.onload(NETWORK)
        return self.transformer(
            hidden_states=x.to(self.dtype),
            encoder_hidden_states=tensors_of(cond)["hidden"].to(self.dtype),
            pooled_projections=tensors_of(cond)["pooled"].to(self.dtype),
            timestep=sigma.to(self.device) * 1000,
            return_dict=False,
        )[0]

    def velocity_field(self, cond: Conditioning, guidance: float) -> VelocityField:
        """Return velocities with classifier-free guidance, both of one pass over twice the images."""
        if guidance <= 1:
            return super().velocity_field(cond, guidance)
        both = Conditioning.cat([self._empty(len(cond)), cond])

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            v = self.velocity(torch.cat([x, x]), sigma.repeat(2), both).float()
            unconditional, conditional = v.chunk(2)
            return unconditional + guidance * (conditional - unconditional)

        return guided

    def _empty(self, count: int) -> Conditioning:
        """Return the empty prompt ``count`` times."""
        if self._empty_prompt is None:
            self._empty_prompt = self.encode_negative("")
        return self._empty_prompt.select([0] * count).to(self.device)


def _architecture(config: Any) -> str:
    """Return the modelspec name of the release that has this configuration."""
    if config.get("dual_attention_layers"):
        return "stable-diffusion-3.5-medium"
    if config.num_layers == 38:
        return "stable-diffusion-3.5-large"
    return "stable-diffusion-3-medium" if config.num_layers == 24 else "stable-diffusion-3"
