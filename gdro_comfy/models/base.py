"""The contract between the engine and a model family.

``FlowModel`` is all that sampling, training, evaluation and the nodes know of a model. A new family is
a new module that implements it; ``pipeline_model.py`` does most of that for a diffusers pipeline.

Conventions:

- ``x_sigma = (1 - sigma) x0 + sigma noise``: ``x0`` are clean latents, ``noise`` is standard normal, sigma is
  a noise level in [0, 1]. The network predicts the velocity ``noise - x0``.
- Latents are ``[n, channels, h, w]``, normalised as the network reads them (see ``latent_scale``).
  Images are ``[n, height, width, 3]``, floats in [0, 1], as in ComfyUI. Sizes are (width, height) in pixels.
- Weights rest on the CPU. ``active()`` allows them onto the device, and each method brings what it needs.
- ComfyUI calls nodes under ``torch.inference_mode()``, whose tensors cannot enter autograd. ``active()``
  leaves that mode, and so does every method that builds no graph (``without_graph``).
- A model is the output of a ComfyUI node, which ComfyUI caches. A context manager therefore restores
  whatever it changes, also after an error. Only ``prepare`` changes a model for good; it is for
  the code that loads it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from ..data.conditioning import Conditioning

if TYPE_CHECKING:
    from ..data.lora_weights import LoRAWeights
    from ..data.prompts import Prompt
    from ..data.runs import SamplerChoice
    from ..progress import Progress

StepCallback = Callable[[int, int, Tensor], None]
"""``callback(steps done, steps in all, estimate of x0)``; it may raise to stop the sampling."""

P = ParamSpec("P")
R = TypeVar("R")


def without_graph(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to build no autograd graph, yet return tensors that training can use.

    Leaving inference mode turns gradients on, so ``no_grad`` has to come second.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.no_grad():
            return function(*args, **kwargs)

    return wrapper


@dataclass(frozen=True)
class AdapterConfig:
    """A LoRA to train.

    Args:
        rank: the inner size of every layer.
        alpha: the update is scaled by ``alpha / rank``.
        target: "attention" or "attention+mlp", the layers that get one.
    """

    rank: int = 32
    alpha: float = 32.0
    target: str = "attention"


@dataclass(frozen=True)
class LoRAFile:
    """A LoRA file to merge into the base.

    Args:
        path: the file, written by any common tool.
        strength: factor of its update.
        input_name: the node's input at which it was chosen, for messages.
    """

    path: Path
    strength: float
    input_name: str = "lora_1"


class FlowModel(Protocol):
    """A rectified-flow text-to-image model with room for one trainable LoRA, its adapter.

    Call the methods that compute, and ``adapters`` and ``with_lora``, within ``active()``.
    """

    identity: dict[str, Any]
    """Which weights these are, JSON-able. Runs and LoRAs record it; a model refuses those of another."""
    merged: tuple[str, ...]
    """The LoRAs that were merged into the base, in words."""
    title: str
    """Name of the family for users, such as "FLUX.1"."""
    architecture: str
    """Name of the architecture in the headers of LoRA files (``modelspec.architecture``)."""
    base_version: str
    """Name of the family there, as training tools write it (``ss_base_model_version``)."""
    default_size: tuple[int, int]
    """Width and height that the model was trained for, in pixels."""
    size_multiple: int
    """Widths and heights must be multiples of this many pixels."""
    latent_downscale: int
    """Pixels along one side of a cell of the latents."""
    key_prefix: str
    """What precedes the names of modules in the LoRA files of this model."""
    latent_scale: tuple[float, float]
    """(scale, shift): latents are ``(z - shift) * scale``, where z is the output of the VAE's encoder."""
    device: torch.device
    """The device that computes."""
    dtype: torch.dtype
    """The dtype in which the network computes; adapters are float32 all the same."""
    weights_may_stay_out: bool
    """Whether layers can run while their weights rest in main memory."""
    quantizations: Mapping[str, float]
    """What ``prepare`` can quantize to, with the share of the bytes that it leaves, in (0, 1)."""

    @property
    def default_guidance(self) -> float:
        """The guidance that the model is made for; 1 if it is made for any."""
        ...

    @property
    def noise_shift(self) -> float | None:
        """The shift of the sampler's noise levels; None if it depends on the size of the image."""
        ...

    def resolve_sampler(
        self, sampler: SamplerChoice | None, guidance: float
    ) -> SamplerChoice | None:
        """Return the sampler to use where the model has a choice, None where it has only one.

        Raises:
            InputError: the model does not have this sampler, or this guidance ignores the negative prompt.
        """
        ...

    def batch_size(self, size: tuple[int, int]) -> int:
        """Return how many images of this size to sample at once, 1 or more."""
        ...

    def graph(self) -> AbstractContextManager[None]:
        """Enter for a forward and backward pass: both belong inside one such context."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Allow the weights onto ``device``; on leaving, all of them rest on the CPU. May be nested."""
        ...

    def as_recorded(self, identity: Mapping[str, Any]) -> FlowModel:
        """Return this model, or one of the same weights that reads text as the maker of a record did.

        Args:
            identity: that a run or LoRA records, maybe by a version before.
        """
        ...

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` for the first prompt that the text encoders cannot read, or not in full."""
        ...

    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        """Encode prompts into what the network reads besides latents and noise level."""
        ...

    def encode_negative(self, text: str) -> Conditioning | None:
        """Encode what classifier-free guidance leads away from, one prompt on the CPU.

        Returns:
            None if the model has no classifier-free guidance: its guidance is an input of the network, or it
            has none.
        """
        ...

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        """Return the conditioning for training on images that were sampled with this guidance.

        A family whose network takes the guidance scale as an input adds it; the others return ``cond``.
        ``sample`` does this itself.
        """
        ...

    def sample(
        self,
        cond: Conditioning,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        size: tuple[int, int],
        on_step: StepCallback | None = None,
        sampler: SamplerChoice | None = None,
    ) -> Tensor:
        """Integrate the flow from noise to clean latents.

        Args:
            cond: one prompt per image.
            seeds: one seed per image. A seed gives the same noise whatever else is in the batch.
            steps: evaluations of the velocity.
            guidance: scale of the guidance; 1 is none where guidance is classifier-free.
            size: (width, height) in pixels, multiples of ``size_multiple``.
            on_step: called after every step.
            sampler: as ``resolve_sampler`` returns it; None is the model's default.

        Returns:
            Latents ``[n, channels, h, w]``, float32 on ``device``.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Decode latents into images ``[n, height, width, 3]``, float32 on the CPU."""
        ...

    def encode_images(self, images: Tensor) -> Tensor:
        """Encode images ``[n, height, width, 3]`` in [0, 1] into latents, float32 on ``device``.

        The encoding is the mean of the VAE's distribution: the same image gives the same latents.
        """
        ...

    def told_sigma(self, sigma: Tensor) -> Tensor:
        """Return the noise levels that the network is told for these, which may be rounded to its dtype.

        Latents that ``velocity`` gets have this much noise.
        """
        ...

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """Predict the velocity at latents ``x`` and noise levels ``sigma`` ``[n]``.

        Gradients reach the adapter. There is no classifier-free guidance.
        """
        ...

    def adapters(
        self, config: AdapterConfig, seed: int = 0
    ) -> AbstractContextManager[dict[str, torch.nn.Parameter]]:
        """Attach a new adapter whose update is exactly zero, and remove it on leaving.

        Args:
            seed: of the initial weights, whatever the state of the global generator.

        Yields:
            Its parameters, float32: ``<module>.lora_A`` ``[rank, in]``, ``<module>.lora_B`` ``[out, rank]``.
        """
        ...

    def adapter_modules(self, target: str) -> list[str]:
        """Return the names of the linear layers that an adapter with this ``target`` changes."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Switch the adapter off, so that ``velocity`` is the base model's: the reference."""
        ...

    def with_lora(
        self, weights: LoRAWeights, strength: float = 1.0
    ) -> AbstractContextManager[None]:
        """Apply a finished LoRA, its update multiplied by ``strength``."""
        ...

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """Return the (out, in) of every linear layer that a LoRA may change, by module name."""
        ...

    def prepare(
        self, host: Progress, loras: Sequence[LoRAFile] = (), quantization: str = "none"
    ) -> None:
        """Merge LoRA files into the base and quantize it, for good; both become part of the identity.

        Args:
            loras: merged in this order.
            quantization: "none", or one of ``quantizations``, to need less memory.

        Raises:
            InputError: a file is not a LoRA, or one for another model, or this device or this Python cannot
                quantize: nothing was changed. Or a sum with a LoRA is beyond the range of the dtype.
        """
        ...

    def checkpointed(self, on: bool = True) -> AbstractContextManager[None]:
        """Recompute each block's activations in the backward pass (gradient checkpointing)."""
        ...

    def compiled(self, on: bool = True) -> AbstractContextManager[None]:
        """Run the network's blocks through ``torch.compile``.

        The first passes take longer and the others less; results agree up to rounding.

        Raises:
            InputError: torch cannot compile on this machine.
        """
        ...

    def without_values(self) -> FlowModel:
        """Return a copy whose network is on the meta device: its passes have shapes and allocations alone.

        ``adapters``, ``checkpointed``, ``graph`` and ``velocity`` work on it.
        """
        ...

    def release(self) -> None:
        """Move everything off the device; it returns when it is next needed."""
        ...

    def reserve(self, in_bytes: int) -> None:
        """Keep this many bytes of the device free for passes in ``graph``, if weights can stay out."""
        ...

    def weights_in_bytes(self) -> int:
        """Return the bytes of the network's weights, without text encoders and VAE."""
        ...

    def network_weights(self) -> dict[str, Tensor]:
        """Return copies of the network's weights on the CPU under diffusers' names.

        Raises:
            InputError: the network is quantized.
        """
        ...

    def text_tensors(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        """Return encoded prompts as other programs know them: tokens ``[n, t, d]``, summary ``[n, d]``."""
        ...


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise ``[len(seeds), *shape]``, float32 on the CPU.

    Each item comes from its own seed, so that an image depends neither on its neighbours in the batch
    nor on the device.
    """
    return torch.stack(
        [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
