"""Stable Diffusion 3 and 3.5 behind the FlowModel contract, through diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.conditioning import Conditioning
from .base import without_graph
from .families import SD3
from .offload import ENCODERS, NETWORK
from .original_layouts import Names, sd3_names
from .pipeline_model import Field, PipelineModel

if TYPE_CHECKING:
    from ..data.prompts import Prompt

_T5_LENGTH = 256


class SD3Model(PipelineModel):
    """A ``StableDiffusion3Pipeline`` as a FlowModel."""

    family = SD3
    attention = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
        *("attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"),
    )
    mlp = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2")

    kept_in_block = 22
    longest_shift = 1.16

    def __init__(self, pipeline: Any, identity: dict[str, Any], device: torch.device) -> None:
        super().__init__(pipeline, identity, device)
        config = self.transformer.config
        side = config.sample_size * pipeline.vae_scale_factor
        self.default_size = (side, side)
        self.latent_channels = config.in_channels
        self.size_multiple = pipeline.vae_scale_factor * config.patch_size
        self.architecture = _architecture(config)
        # Where CLIP alone fills the width of the joint attention, the model was made without T5;
        # where T5 is only left out, the pipeline stands zeros in its place.
        clips = (pipeline.text_encoder, pipeline.text_encoder_2)
        without_t5 = sum(clip.config.hidden_size for clip in clips) >= config.joint_attention_dim
        self._t5_length = 0 if pipeline.text_encoder_3 is None and without_t5 else _T5_LENGTH
        self.text_tokens = pipeline.tokenizer_max_length + self._t5_length
        self._nothing: Conditioning | None = None

    def original_names(self) -> Names:
        return sd3_names(self.transformer.config.num_layers)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """CLIP must know the words; where T5 reads along, a long prompt is cut off by CLIP alone."""
        tokenizer = self.pipeline.tokenizer
        alone = self._t5_length == 0
        self._check_text(prompts, tokenizer, tokenizer.model_max_length if alone else None)
        if self.pipeline.text_encoder_3 is not None:
            self._check_text(prompts, self.pipeline.tokenizer_3, self._t5_length)

    @without_graph
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        with self._places.using(ENCODERS):
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
        self._places.bring(NETWORK)
        return self.transformer(
            hidden_states=x.to(self.dtype),
            encoder_hidden_states=cond.tensors["hidden"],
            pooled_projections=cond.tensors["pooled"],
            timestep=sigma.to(self.device) * 1000,
            return_dict=False,
        )[0]

    def field(self, cond: Conditioning, guidance: float) -> Field:
        """With guidance both velocities come from one pass of twice the images."""
        if guidance <= 1:
            return super().field(cond, guidance)
        both = Conditioning.cat([self._empty(len(cond)), cond])

        def guided(x: Tensor, sigma: Tensor) -> Tensor:
            v = self.velocity(torch.cat([x, x]), sigma.repeat(2), both).float()
            away, towards = v.chunk(2)
            return away + guidance * (towards - away)

        return guided

    def _empty(self, count: int) -> Conditioning:
        from ..data.prompts import Prompt

        if self._nothing is None:
            self._nothing = self.encode([Prompt("")]).to("cpu")
        return self._nothing.select([0] * count).to(self.device)


def _architecture(config: Any) -> str:
    """The name in the headers of LoRA files, by the size that Stability AI released."""
    if config.get("dual_attention_layers"):
        return "stable-diffusion-3.5-medium"
    if config.num_layers == 38:
        return "stable-diffusion-3.5-large"
    return "stable-diffusion-3-medium" if config.num_layers == 24 else "stable-diffusion-3"
