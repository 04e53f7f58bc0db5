"""A model of the engine as ComfyUI's MODEL, CLIP and VAE.

The MODEL is ComfyUI's own class with a copy of the weights. CLIP and VAE have the methods that ComfyUI's
nodes call, and pass the work on to the engine's model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.model_sampling
import comfy.sd
import torch

from ..gdro_comfy.data.prompts import Prompt
from ..gdro_comfy.errors import InputError
from .wires.model import NativeFlowModel

if TYPE_CHECKING:
    from ..gdro_comfy.models.base import FlowModel


class TextEncoder:
    """The part of CLIP's interface that CLIP Text Encode and similar nodes use."""

    def __init__(self, model: FlowModel) -> None:
        self._model = model
        self.identity = model.identity

    def tokenize(self, text: str, **_: Any) -> str:
        return text

    def encode_from_tokens_scheduled(
        self, tokens: str, unprojected: bool = False, add_dict: dict[str, Any] | None = None,
        show_pbar: bool = True,
    ) -> list[Any]:  # fmt: skip
        prompts = [Prompt(tokens.strip())]
        self._model.check_prompts(prompts)
        with self._model.active():
            hidden, pooled = self._model.text_tensors(self._model.encode(prompts))
        return [[hidden.float().cpu(), {"pooled_output": pooled.float().cpu(), **(add_dict or {})}]]


class Autoencoder:
    """The part of VAE's interface that VAE Decode and VAE Encode use.

    Latents are the VAE's own, before the model's scale and shift.
    """

    def __init__(self, model: FlowModel) -> None:
        self._model = model
        self.identity, self.default_size = model.identity, model.default_size

    def spacial_compression_decode(self) -> int:  # ComfyUI's spelling
        return self._model.latent_downscale

    def decode(self, latents: torch.Tensor, **_: Any) -> torch.Tensor:
        scale, shift = self._model.latent_scale
        with self._model.active():
            return torch.cat([self._model.decode((z[None] - shift) * scale) for z in latents])

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        scale, shift = self._model.latent_scale
        multiple = self._model.size_multiple
        height, width = (side // multiple * multiple for side in images.shape[1:3])
        with self._model.active():
            latents = torch.cat(
                [self._model.encode_images(image[None, :height, :width, :3]) for image in images]
            )
        return latents.cpu() / scale + shift


def parts(model: FlowModel) -> tuple[Any, Any, Any]:
    """Return MODEL, CLIP and VAE; those that a model came from, if it came from wires.

    Raises:
        InputError: ComfyUI does not know the network.
    """
    if isinstance(model, NativeFlowModel):
        return model.patcher, model.clip, model.vae
    network = comfy.sd.load_diffusion_model_state_dict(
        model.network_weights(), model_options={"dtype": model.dtype}
    )
    if network is None:
        raise InputError(
            "model", "ComfyUI does not know this network", "Use GDRO Generate to sample with it."
        )
    sampling = network.get_model_object("model_sampling")
    if model.noise_shift is not None and isinstance(
        sampling, comfy.model_sampling.ModelSamplingDiscreteFlow
    ):
        shifted = type(sampling)(network.model.model_config)
        shifted.set_parameters(shift=model.noise_shift, multiplier=sampling.multiplier)
        network.add_object_patch("model_sampling", shifted)
    return network, TextEncoder(model), Autoencoder(model)
