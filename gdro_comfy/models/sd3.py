"""Stable Diffusion 3 and 3.5."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.conditioning import BatchedConditioning, Conditioning, tensors_of
from ..data.identity import TEXT_TOKENS
from .families import SD3
from .original_layouts import Names, sd3_names
from .pipeline_model import PipelineModel, VelocityField
from .text_lengths import TextLengths

if TYPE_CHECKING:
    from ..data.prompts import Prompt

_TEXT, _PADDING_ALONE, _NO_T5 = (
    TextLengths(77, 256, 256),
    TextLengths(0, 0, 256),
    TextLengths(0, 0, 0),
)
"""ComfyUI pads T5's text to 77 tokens, and leaves it out where T5 is missing. T5 reads 256."""


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
    t5_tokenizer = "tokenizer_3"

    def __init__(self, pipeline: Any, identity: dict[str, Any], device: torch.device) -> None:
        super().__init__(pipeline, identity, device)
        config = self.transformer.config
        side = config.sample_size * pipeline.vae_scale_factor
        self.default_size = (side, side)
        self.latent_channels = config.in_channels
        self.size_multiple = pipeline.vae_scale_factor * config.patch_size
        self.architecture = _architecture(config)
        # If the two CLIPs fill the width of the joint attention, the model was made without T5.
        clips = (pipeline.text_encoder, pipeline.text_encoder_2)
        without_t5 = sum(clip.config.hidden_size for clip in clips) >= config.joint_attention_dim
        missing = _NO_T5 if without_t5 else _PADDING_ALONE
        self.text_lengths = missing if pipeline.text_encoder_3 is None else _TEXT
        self.text_tokens = pipeline.tokenizer_max_length + self.text_lengths.at_least
        if self.text_lengths is not _NO_T5:
            self.identity = {**identity, TEXT_TOKENS: self.text_lengths.at_least}
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
            readers.append((self.pipeline.tokenizer_3, self.text_lengths.at_most))
            cut = len(clips)
        self._check_text(prompts, readers, cut)

    def encode_at(self, texts: Sequence[str], length: int) -> Conditioning:
        hidden, _, pooled, _ = self.pipeline.encode_prompt(
            texts,
            texts,
            texts,
            device=self.device,
            do_classifier_free_guidance=False,
            max_sequence_length=length,
        )
        assert hidden is not None
        assert pooled is not None
        return BatchedConditioning({"hidden": hidden, "pooled": pooled})

    def encode_negative(self, text: str) -> Conditioning:
        from ..data.prompts import Prompt

        return self.encode([Prompt(text)]).to("cpu")

    def velocity_at(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
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

    def _read_text(self, lengths: TextLengths) -> None:
        super()._read_text(lengths)
        self._empty_prompt = None

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
