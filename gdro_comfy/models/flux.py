"""FLUX.1 (dev and schnell).

The network reads latents packed 2 x 2: ``[n, 16, h, w]`` outside is ``[n, h/2 * w/2, 64]`` inside, with the
row and column of each token as a further input. dev is guidance-distilled: the scale of the guidance is an
input of its network, in sampling and in training. schnell has no guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.conditioning import (
    BatchedConditioning,
    Conditioning,
    StructuredConditioning,
    tensors_of,
)
from ..data.identity import TEXT_TOKENS
from .families import FLUX
from .original_layouts import Names, flux_names
from .pipeline_model import PipelineModel, VelocityField
from .text_lengths import TextLengths

if TYPE_CHECKING:
    from ..data.prompts import Prompt

GUIDANCE = 3.5
"""The default scale, that of FLUX.1-dev's own pipeline."""

_DEV_TEXT, _SCHNELL_TEXT = TextLengths(256, 512, 512), TextLengths(256, 256, 256)
"""ComfyUI pads to 256 tokens. Schnell was distilled at 256, dev reads 512."""


class FluxModel(PipelineModel):
    """A ``FluxPipeline`` as a ``FlowModel``."""

    family = FLUX
    attention = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    )
    # proj_out of the single blocks is the output of attention and MLP together.
    mlp = (
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
        *("proj_mlp", "proj_out"),
    )

    default_max_shift = 1.15
    t5_tokenizer = "tokenizer_2"

    def __init__(self, pipeline: Any, identity: dict[str, Any], device: torch.device) -> None:
        super().__init__(pipeline, identity, device)
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        self.default_size = (side, side)
        self.latent_channels = self.transformer.config.in_channels // 4
        self.size_multiple = pipeline.vae_scale_factor * 2
        self._guided = bool(self.transformer.config.guidance_embeds)
        self.architecture = "flux-1-dev" if self._guided else "flux-1-schnell"
        self.text_lengths = _DEV_TEXT if self._guided else _SCHNELL_TEXT
        self.text_tokens = self.text_lengths.at_least
        self.identity = {**identity, TEXT_TOKENS: self.text_tokens}

    def original_names(self) -> Names:
        config = self.transformer.config
        return flux_names(config.num_layers, config.num_single_layers)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Check the prompts with both tokenizers; CLIP, which only gives a summary, may cut one off."""
        clip, t5 = self.pipeline.tokenizer, self.pipeline.tokenizer_2
        readers = [(clip, clip.model_max_length), (t5, self.text_lengths.at_most)]
        self._check_text(prompts, readers, cut=1)

    def encode_at(self, texts: Sequence[str], length: int) -> Conditioning:
        hidden, pooled, _ = self.pipeline.encode_prompt(
            texts, texts, device=self.device, max_sequence_length=length
        )
        return BatchedConditioning({"hidden": hidden, "pooled": pooled})

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        if not self._guided:
            return cond

        def guided(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            pooled = tensors["pooled"]
            scale = torch.full((len(pooled),), guidance, dtype=torch.float32, device=pooled.device)
            return {**tensors, "guidance": scale}

        if isinstance(cond, StructuredConditioning):
            return StructuredConditioning(tuple(guided(value) for value in cond.values))
        return BatchedConditioning(guided(tensors_of(cond)))

    @property
    def default_guidance(self) -> float:
        return GUIDANCE if self._guided else 1.0

    def told_sigma(self, sigma: Tensor) -> Tensor:
        # The network multiplies by 1000 in its own dtype: in bfloat16, in steps of 4 above 0.5.
        if self.dtype == torch.float32:
            return sigma
        return (sigma.to(self.dtype) * 1000).to(sigma.dtype) / 1000

    def velocity_at(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        if self._guided and "guidance" not in tensors_of(cond):
            cond = self.with_guidance(cond, GUIDANCE)
        hidden = tensors_of(cond)["hidden"].to(self.dtype)
        rows, columns = (side // 2 for side in x.shape[-2:])
        packed = self.transformer(
            hidden_states=pack(x).to(self.dtype),
            encoder_hidden_states=hidden,
            pooled_projections=tensors_of(cond)["pooled"].to(self.dtype),
            timestep=sigma.to(self.device),
            guidance=tensors_of(cond).get("guidance"),
            img_ids=_positions(rows, columns, self.device),
            txt_ids=torch.zeros(hidden.shape[1], 3, device=self.device),
            return_dict=False,
        )[0]
        return unpack(packed, rows, columns)

    def velocity_field(self, cond: Conditioning, guidance: float) -> VelocityField:
        return super().velocity_field(self.with_guidance(cond, guidance), guidance)

    def unshifted_sigmas(self, steps: int) -> Any:
        """Return evenly spaced levels from 1 down to 1 / steps, as FLUX.1's own pipeline does."""
        if self.pipeline.scheduler.config.get("use_flow_sigmas"):
            return None
        return np.linspace(1.0, 1 / steps, steps)


def pack(x: Tensor) -> Tensor:
    """Pack ``[n, c, h, w]`` into tokens of 2 x 2 latents, ``[n, h/2 * w/2, 4 c]``."""
    n, channels, height, width = x.shape
    squares = x.reshape(n, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Undo ``pack``: tokens ``[n, rows * columns, 4 c]`` to ``[n, c, 2 rows, 2 columns]``."""
    squares = tokens.reshape(len(tokens), rows, columns, -1, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _positions(rows: int, columns: int, device: torch.device) -> Tensor:
    """Return zero, row and column of each token, ``[rows * columns, 3]``."""
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    column = torch.arange(columns, device=device).repeat(rows)
    return torch.stack([torch.zeros_like(row), row, column], 1).float()
