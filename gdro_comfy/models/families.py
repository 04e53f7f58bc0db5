"""The model families of the engine: all that must be known of one before its weights are loaded.

The code of a family is a module of its own (``sd3.py``, ``flux.py``), which ``loading.flow_model`` imports.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRANSFORMER, VAE, CLIP_L, CLIP_G, T5 = "transformer", "vae", "clip_l", "clip_g", "t5"
"""The kinds of parts that a model consists of."""


@dataclass(frozen=True)
class Family:
    """A model family.

    "Original" names are those in the files of the model's makers, as opposed to diffusers'.

    Args:
        key: its name in the code.
        title: its name for users.
        pipeline: the class of its diffusers pipeline, as ``model_index.json`` names it.
        optional: components of the pipeline that a folder may lack.
        base_version: ``ss_base_model_version`` in the headers of LoRA files.
        encoders: the kinds of its text encoders, in the order of the pipeline.
        clip_projected: whether CLIP-L's summary passes through CLIP's text projection.
        latent_scale: (scale, shift) of its latents, which single files do not contain.
        schedule: settings of the scheduler, which single files do not contain.
        guided_schedule: those of its networks that take the guidance scale, if they differ.
        text_input: original name of the weight that reads the tokens of the text encoders.
    """

    key: str
    title: str
    pipeline: str
    optional: tuple[str, ...]
    base_version: str
    encoders: tuple[str, ...]
    clip_projected: bool
    latent_scale: tuple[float, float]
    schedule: Mapping[str, Any]
    guided_schedule: Mapping[str, Any] | None
    text_input: str

    @property
    def required(self) -> tuple[str, ...]:
        """The kinds of parts that a model of single files must have."""
        encoders = zip(self.encoder_suffixes, self.encoders, strict=True)
        needed = [kind for end, kind in encoders if f"text_encoder{end}" not in self.optional]
        return (TRANSFORMER, *needed, VAE)

    @property
    def encoder_suffixes(self) -> tuple[str, ...]:
        """The suffixes of "text_encoder" and "tokenizer" in the pipeline, in the order of ``encoders``."""
        return ("", "_2", "_3")[: len(self.encoders)]

    def pipeline_class(self) -> Any:
        """Return the class of its diffusers pipeline."""
        import diffusers

        return getattr(diffusers, self.pipeline)


SD3 = Family(
    key="sd3",
    title="Stable Diffusion 3",
    pipeline="StableDiffusion3Pipeline",
    optional=("text_encoder_3", "tokenizer_3"),
    base_version="sd3",
    encoders=(CLIP_L, CLIP_G, T5),
    clip_projected=True,
    latent_scale=(1.5305, 0.0609),
    schedule={"shift": 3.0},
    guided_schedule=None,
    text_input="context_embedder.weight",
)
FLUX = Family(
    key="flux",
    title="FLUX.1",
    pipeline="FluxPipeline",
    optional=(),
    base_version="flux1",
    encoders=(CLIP_L, T5),
    clip_projected=False,
    latent_scale=(0.3611, 0.1159),
    schedule={"shift": 1.0},
    guided_schedule={
        "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    },
    text_input="txt_in.weight",
)  # fmt: skip

FAMILIES = (SD3, FLUX)


def by_pipeline(name: object) -> Family | None:
    """Return the family whose diffusers pipeline has this class name; None if there is none."""
    return next((family for family in FAMILIES if family.pipeline == name), None)


def size_multiple(folder: Path) -> int | None:
    """Return what sides of pictures are multiples of, in pixels, from the settings in a diffusers folder.

    Returns:
        None if it is no such folder, which loading it says.
    """
    try:
        index, vae, network = (
            json.loads((folder / name).read_text(encoding="utf-8"))
            for name in ("model_index.json", "vae/config.json", "transformer/config.json")
        )
        # FLUX packs 2 x 2 latents into a token, and its configuration says 1.
        patch = 2 if index["_class_name"] == FLUX.pipeline else int(network["patch_size"])
        return patch * 2 ** (len(vae["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
