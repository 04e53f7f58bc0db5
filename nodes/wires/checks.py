"""Refuse a MODEL, CLIP or VAE that cannot be aligned, by name and before any work."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_sampling
import torch

from ...gdro_comfy.errors import InputError

log = logging.getLogger(__name__)


def check_model(model: Any) -> None:
    """Raise ``InputError`` unless a MODEL predicts the velocity of an image's latents."""
    sampling = model.get_model_object("model_sampling")
    name = type(model.model.model_config).__name__
    if not isinstance(sampling, comfy.model_sampling.CONST) or isinstance(
        sampling, comfy.model_sampling.IMG_TO_IMG_FLOW
    ):
        raise InputError(
            "model",
            f"this is a {name} model, which predicts no rectified flow",
            "GDRO needs one that does, such as SD3.5, FLUX, Chroma, Qwen-Image or Z-Image; SD 1.5, SDXL "
            "and their kind do not.",
        )
    latent = model.get_model_object("latent_format")
    if latent.latent_channels <= 3 or latent.spacial_downscale_ratio == 1:
        raise InputError(
            "model",
            f"this {name} model works on pixels, not on latents",
            "Use a model of the same family that has a VAE.",
        )
    if getattr(sampling, "noise_scale", 1.0) != 1.0:
        raise InputError(
            "model", f"this {name} model scales its noise", "It cannot be aligned here yet."
        )
    if latent.latent_dimensions == 1:
        raise InputError("model", f"{name} makes no images", "Connect a text-to-image model.")
    if model.model.concat_keys:
        raise InputError(
            "model",
            f"this {name} model edits or fills in an image that it is given",
            "Connect the text-to-image model of the family.",
        )
    _check_options(model)


def _check_options(model: Any) -> None:
    """Refuse patches that change what the network computes and cannot be trained through."""
    options = model.model_options
    inside = options.get("transformer_options", {})
    for key in ("patches", "patches_replace", "wrappers", "callbacks"):
        if inside.get(key):
            raise InputError(
                "model",
                f"a node before this one put {key} onto the MODEL (as IP-Adapter, ControlNet patches or "
                "caching nodes do)",
                "Connect the MODEL from before that node. LoRAs and ModelSampling nodes may stay.",
            )
    if "model_function_wrapper" in options:
        raise InputError(
            "model",
            "a node before this one wraps the MODEL's function, which training would not see",
            "Connect the MODEL from before that node. LoRAs and ModelSampling nodes may stay.",
        )


def warn_if_distilled(model: Any) -> None:
    """Warn of a base that was distilled to few steps: training on its velocities undoes that."""
    name = type(model.model.model_config).__name__
    if name.endswith("Schnell"):
        log.warning(
            "%s is distilled to a few steps, and training loosens that: train on the undistilled model "
            "of the family (FLUX.1-dev), and use the LoRA on either.",
            name,
        )


def check_vae(model: Any, vae: Any) -> None:
    """Raise ``InputError`` unless a VAE decodes the latents of this MODEL."""
    wanted = model.get_model_object("latent_format").latent_channels
    channels = getattr(vae, "latent_channels", None)
    if channels is not None and channels != wanted:
        raise InputError(
            "vae",
            f"its latents have {channels} channels, and the MODEL's {wanted}",
            "Connect the VAE that belongs to this model.",
        )


def check_conditioning(text_width: int | None, conditioning: Any) -> None:
    """Raise ``InputError`` if the CLIP's encoding is not what the MODEL's network reads."""
    tokens = conditioning[0][0]
    if text_width is None or not isinstance(tokens, torch.Tensor):
        return
    if tokens.shape[-1] != text_width:
        raise InputError(
            "clip",
            f"it encodes text into {tokens.shape[-1]} numbers a token, and the MODEL reads {text_width}",
            "Connect the CLIP that belongs to this model.",
        )
