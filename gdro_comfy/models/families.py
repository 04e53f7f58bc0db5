"""The families that the engine knows: what must be known of one before it is loaded.

A family's work is in its own module (``sd3.py``, ``flux.py``), imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .base import FlowModel


TRANSFORMER, VAE, CLIP_L, CLIP_G, T5 = "transformer", "vae", "clip_l", "clip_g", "t5"
"""Kinds of parts that a model is made of."""


@dataclass(frozen=True)
class Family:
    """One family.

    Args:
        key: its name in the code, and that of its module.
        title: its name for users.
        pipeline: the class of diffusers' pipeline, as ``model_index.json`` names it.
        model: the class in its module that makes a FlowModel of such a pipeline.
        optional: parts of the pipeline that a folder may lack.
        base_version: ``ss_base_model_version`` in the headers of LoRA files.
        encoders: kinds of its text encoders, in the pipeline's order.
        clip_projected: whether CLIP-L's summary goes through its projection.
        latent_scale: (scale, shift) of its latents, which no single file holds.
        schedule: settings of its noise levels, which no single file holds.
        guided_schedule: those of its networks that are told the guidance, where they differ.
        text_in: the weight that reads the text encoders, in the makers' names.
    """

    key: str
    title: str
    pipeline: str
    model: str
    optional: tuple[str, ...]
    base_version: str
    encoders: tuple[str, ...]
    clip_projected: bool
    latent_scale: tuple[float, float]
    schedule: Mapping[str, Any]
    guided_schedule: Mapping[str, Any] | None
    text_in: str

    @property
    def needs(self) -> tuple[str, ...]:
        """Kinds of the parts that it cannot do without."""
        names = zip(self.encoder_names, self.encoders, strict=True)
        needed = [kind for name, kind in names if f"text_encoder{name}" not in self.optional]
        return (TRANSFORMER, *needed, VAE)

    @property
    def encoder_names(self) -> tuple[str, ...]:
        """What the pipeline puts behind "text_encoder" and "tokenizer"."""
        return ("", "_2", "_3")[: len(self.encoders)]

    def model_class(self) -> Callable[[Any, dict[str, Any], torch.device], FlowModel]:
        """Makes a FlowModel of a pipeline, its identity and the device to compute on."""
        return getattr(import_module(f".{self.key}", __package__), self.model)

    def pipeline_class(self) -> Any:
        import diffusers

        return getattr(diffusers, self.pipeline)


SD3 = Family(
    "sd3", "Stable Diffusion 3", "StableDiffusion3Pipeline", "SD3Model",
    ("text_encoder_3", "tokenizer_3"), "sd3", (CLIP_L, CLIP_G, T5), True, (1.5305, 0.0609),
    {"shift": 3.0}, None, "context_embedder.weight",
)  # fmt: skip
FLUX = Family(
    "flux", "FLUX.1", "FluxPipeline", "FluxModel", (), "flux1", (CLIP_L, T5), False, (0.3611, 0.1159),
    {"shift": 1.0},
    {"shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15},
    "txt_in.weight",
)  # fmt: skip

FAMILIES = (SD3, FLUX)
