"""The families that the engine knows: what must be known of one before it is loaded.

A family's work is in its own module (``sd3.py``, ``flux.py``), imported when a model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from .base import FlowModel


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
    """

    key: str
    title: str
    pipeline: str
    model: str
    optional: tuple[str, ...]
    base_version: str

    def model_class(self) -> Callable[[Any, dict[str, Any], torch.device], FlowModel]:
        """Makes a FlowModel of a pipeline, its identity and the device to compute on."""
        return getattr(import_module(f".{self.key}", __package__), self.model)

    def pipeline_class(self) -> Any:
        import diffusers

        return getattr(diffusers, self.pipeline)


SD3 = Family(
    "sd3", "Stable Diffusion 3", "StableDiffusion3Pipeline", "SD3Model",
    ("text_encoder_3", "tokenizer_3"), "sd3",
)  # fmt: skip
FLUX = Family("flux", "FLUX.1", "FluxPipeline", "FluxModel", (), "flux1")

FAMILIES = (SD3, FLUX)
