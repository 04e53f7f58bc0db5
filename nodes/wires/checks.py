"""Refuse a MODEL, CLIP or VAE that cannot be aligned, by name and before any work."""

from __future__ import annotations

import logging
from typing import Any

import comfy.model_sampling
import torch

from ...gdro_comfy.errors import InputError
from . import families

log = logging.getLogger(__name__)

_FLOWS = (comfy.model_sampling.CONST, comfy.model_sampling.COSMOS_RFLOW)
"""Ways of sampling that go along a straight path from the noise to the image."""


def check_model(model: Any) -> None:
    """Raise ``InputError`` unless a MODEL predicts the velocity of an image's latents."""
    config = model.model.model_config
    name = type(config).__name__
    known = _is_comfyuis(config) and families.is_known(name)
    refused = families.refusal(name, config.unet_config) if known else None
    if refused is not None:
        finding, remedy = refused
        raise InputError("model", f"this {name} model {finding}", remedy)
    _check_structure(model, name)
    _check_options(model)
    if not known:
        log.info(
            "%s is no model that GDRO knows; it is judged by its structure alone. Look at the rollout's "
            "images before you train.",
            name,
        )


def _is_comfyuis(config: Any) -> bool:
    """Return whether the class of a model is ComfyUI's own, not one of a pack with the same name."""
    return type(config).__module__ == "comfy.supported_models"


def _check_structure(model: Any, name: str) -> None:
    """Refuse what no name is needed for."""
    sampling = model.get_model_object("model_sampling")
    if not isinstance(sampling, _FLOWS) or isinstance(
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
    if model.model.concat_keys or _reads_an_image(model, name):
        raise InputError(
            "model",
            f"this {name} model edits or fills in an image that it is given",
            "Connect the text-to-image model of the family.",
        )


def _reads_an_image(model: Any, name: str) -> bool:
    """Return whether a network is given an image besides the latents, as FLUX.1-Canny and -Depth are."""
    latent = model.get_model_object("latent_format")
    noise = torch.zeros(1, latent.latent_channels, *[1] * (latent.latent_dimensions - 2), 8, 8)
    try:
        given = model.model.concat_cond(noise=noise, latent_image=noise, device=noise.device)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise InputError(
            "model",
            f"this {name} model asks for more than a text ({type(error).__name__}: {error})",
            "Connect a text-to-image model.",
        ) from error
    return given is not None


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
    if any(getattr(model, "injections", {}).values()):
        raise InputError(
            "model",
            "a node before this one changes layers while they run (as bypass LoRA loaders do), which "
            "gradients would not see",
            "Connect the MODEL from before that node, or apply the LoRA with the plain LoRA loader.",
        )
    if "model_function_wrapper" in options:
        raise InputError(
            "model",
            "a node before this one wraps the MODEL's function, which training would not see",
            "Connect the MODEL from before that node. LoRAs and ModelSampling nodes may stay.",
        )


def tell_variants(model: Any) -> None:
    """Log what a model may be besides its family's base: distilled to few steps, or made for editing."""
    config = model.model.model_config
    if not _is_comfyuis(config):
        return
    name, settings = type(config).__name__, config.unet_config
    for variant in families.matching(families.WARNED_VARIANTS, name, settings):
        log.warning("This %s model %s. %s", name, variant.finding, variant.remedy)
    for variant in families.matching(families.NOTED_VARIANTS, name, settings):
        log.info("This %s model %s. %s", name, variant.finding, variant.remedy)
    if name in families.FEW_STEPS:
        log.info(
            "%s: %s is distilled to a few steps and has the same layout, so that it cannot be told apart "
            "here. If this is it, train on its undistilled base, and use the LoRA on either.",
            name,
            families.FEW_STEPS[name],
        )
    if name in families.EDITING:
        log.info(
            "%s: %s is made for editing and has the same layout. Here, either makes images of text "
            "alone.",
            name,
            families.EDITING[name],
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
