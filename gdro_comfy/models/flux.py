"""FLUX.1 (dev and schnell) behind the FlowModel contract, through diffusers.

The network works on latents packed 2 x 2: ``[n, 16, h, w]`` outside is ``[n, h/2 * w/2, 64]`` inside,
beside the row and column of each token. dev was distilled from guidance: its scale is one more thing
that the network is told, in sampling and in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..data.conditioning import Conditioning
from .base import without_graph
from .families import FLUX
from .offload import ENCODERS, NETWORK
from .original_layouts import Names, flux_names
from .pipeline_model import Field, PipelineModel

if TYPE_CHECKING:
    from ..data.prompts import Prompt

GUIDANCE = 3.5
"""Where nothing is said: the value of FLUX.1-dev's own pipeline."""

# Tokens of T5. schnell was distilled at 256, dev reads 512.
_T5_LENGTH = {True: 512, False: 256}


class FluxModel(PipelineModel):
    """A ``FluxPipeline`` as a FlowModel."""

    family = FLUX
    attention = (
        *("attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0"),
        *("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj", "attn.to_add_out"),
    )
    # The single blocks' proj_out closes attention and MLP at once.
    mlp = (
        *("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2"),
        *("proj_mlp", "proj_out"),
    )

    kept_in_block = 18
    longest_shift = 1.15

    def __init__(self, pipeline: Any, identity: dict[str, Any], device: torch.device) -> None:
        super().__init__(pipeline, identity, device)
        side = pipeline.default_sample_size * pipeline.vae_scale_factor
        self.default_size = (side, side)
        self.latent_channels = self.transformer.config.in_channels // 4
        self.size_multiple = pipeline.vae_scale_factor * 2
        self._guided = bool(self.transformer.config.guidance_embeds)
        self.architecture = "flux-1-dev" if self._guided else "flux-1-schnell"
        self.t5_length = self.text_tokens = _T5_LENGTH[self._guided]

    def original_names(self) -> Names:
        config = self.transformer.config
        return flux_names(config.num_layers, config.num_single_layers)

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """T5 must read the whole prompt; CLIP gives a summary only, and may cut it off."""
        self._check_text(prompts, self.pipeline.tokenizer)
        self._check_text(prompts, self.pipeline.tokenizer_2, self.t5_length)

    @without_graph
    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        with self._places.using(ENCODERS):
            text = [prompt.text for prompt in prompts]
            hidden, pooled, _ = self.pipeline.encode_prompt(
                text, text, device=self.device, max_sequence_length=self.t5_length
            )
            return Conditioning({"hidden": hidden, "pooled": pooled}).to(self.device, self.dtype)

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        if not self._guided:
            return cond
        like = cond.tensors["pooled"]
        scale = torch.full((len(cond),), guidance, dtype=torch.float32, device=like.device)
        return Conditioning({**cond.tensors, "guidance": scale})

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        self._places.bring(NETWORK)
        if self._guided and "guidance" not in cond.tensors:
            cond = self.with_guidance(cond, GUIDANCE)
        hidden = cond.tensors["hidden"]
        rows, columns = (side // 2 for side in x.shape[-2:])
        packed = self.transformer(
            hidden_states=pack(x).to(self.dtype),
            encoder_hidden_states=hidden,
            pooled_projections=cond.tensors["pooled"],
            timestep=sigma.to(self.device),
            guidance=cond.tensors.get("guidance"),
            img_ids=_positions(rows, columns, self.device),
            txt_ids=torch.zeros(hidden.shape[1], 3, device=self.device),
            return_dict=False,
        )[0]
        return unpack(packed, rows, columns)

    def field(self, cond: Conditioning, guidance: float) -> Field:
        return super().field(self.with_guidance(cond, guidance), guidance)

    def spaced(self, steps: int) -> Any:
        """Evenly from 1 down to 1 / steps, as FLUX.1's own pipeline has it."""
        if self.pipeline.scheduler.config.get("use_flow_sigmas"):
            return None
        return np.linspace(1.0, 1 / steps, steps)


def pack(x: Tensor) -> Tensor:
    """``[n, c, h, w]`` to ``[n, h/2 * w/2, 4 c]``: a token is 2 x 2 latents."""
    n, channels, height, width = x.shape
    squares = x.reshape(n, channels, height // 2, 2, width // 2, 2)
    return squares.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """The reverse of ``pack``, for a grid of ``rows`` x ``columns`` tokens."""
    squares = tokens.reshape(len(tokens), rows, columns, -1, 2, 2)
    return squares.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _positions(rows: int, columns: int, device: torch.device) -> Tensor:
    """``[rows * columns, 3]``: zero, row and column of each token."""
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    column = torch.arange(columns, device=device).repeat(rows)
    return torch.stack([torch.zeros_like(row), row, column], 1).float()
