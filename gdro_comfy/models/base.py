"""The contract between the engine and a model family. The trainer knows nothing else of a model."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor

from ..data.conditioning import Conditioning

if TYPE_CHECKING:
    from ..data.prompts import Prompt
    from ..host import Host

StepCallback = Callable[[int, int, Tensor], None]
P = ParamSpec("P")
R = TypeVar("R")


def without_graph(work: Callable[P, R]) -> Callable[P, R]:
    """A function that keeps no graph for gradients, whatever is trained around it, and whose tensors
    training can use: ComfyUI calls nodes in inference mode. Leaving that mode turns gradients on, so
    the order of the two matters."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        with torch.inference_mode(False), torch.no_grad():
            return work(*args, **kwargs)

    return run


@dataclass(frozen=True)
class AdapterConfig:
    """A LoRA: its rank, its alpha (the update is scaled by alpha / rank), and where it goes.

    ``target`` is "attention" or "attention+mlp".
    """

    rank: int = 32
    alpha: float = 32.0
    target: str = "attention"


@dataclass(frozen=True)
class Style:
    """A LoRA to merge: its file, its strength, and the input that it was chosen at."""

    path: Path
    strength: float
    input_name: str = "lora_1"


class FlowModel(Protocol):
    """A rectified-flow text-to-image model with room for one trainable adapter.

    Latents are the normalised ones the network works on, ``[n, channels, h, w]``; images are float
    tensors ``[n, h, w, 3]`` in [0, 1], as ComfyUI's.
    """

    identity: dict[str, Any]
    """Which weights these are (JSON-able): runs and LoRAs made with others are not mixed."""
    merged: tuple[str, ...]
    """LoRAs that were merged into the base, in words."""
    title: str
    """The family's name for users."""
    architecture: str
    """Its name in the headers of LoRA files (modelspec)."""
    base_version: str
    """The same in the fields that training tools write (ss_base_model_version)."""
    default_size: tuple[int, int]
    """Width and height that the model was trained for, in pixels."""
    size_multiple: int
    """Widths and heights must be multiples of this."""
    latent_scale: tuple[float, float]
    """(scale, shift): latents are ``(z - shift) * scale`` of what the VAE gives."""
    device: torch.device
    dtype: torch.dtype

    @property
    def noise_shift(self) -> float | None:
        """What the noise levels of sampling are shifted by; None where that depends on the size."""
        ...

    def active(self) -> AbstractContextManager[None]:
        """Within this context the weights are on ``device``, so that the methods below may be called;
        outside of it they rest on the CPU. May be nested."""
        ...

    def check_prompts(self, prompts: Sequence[Prompt]) -> None:
        """Raise ``InputError`` for the first prompt that the text encoders cannot read."""
        ...

    def encode(self, prompts: Sequence[Prompt]) -> Conditioning:
        """Encode prompts, with what else the network is told of them."""
        ...

    def with_guidance(self, cond: Conditioning, guidance: float) -> Conditioning:
        """What training is to be told of the guidance that made the images: a family whose network is
        given the scale adds it, the others return ``cond``. ``sample`` does this itself."""
        ...

    def sample(
        self,
        cond: Conditioning,
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        size: tuple[int, int],
        on_step: StepCallback | None = None,
    ) -> Tensor:
        """Integrate the flow from noise (one seed an image) to clean latents ``[n, c, h, w]``.

        ``size`` is (width, height) in pixels; ``on_step(done, steps, x0 estimate)`` may raise to stop.
        The same seed gives the same noise whatever else is in the batch.
        """
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images ``[n, h, w, 3]`` float32 on the CPU."""
        ...

    def encode_images(self, images: Tensor) -> Tensor:
        """Images ``[n, h, w, 3]`` in [0, 1] to latents."""
        ...

    def velocity(self, x: Tensor, sigma: Tensor, cond: Conditioning) -> Tensor:
        """The network's velocity at ``x`` and ``sigma`` ``[n]``; gradients reach the adapter."""
        ...

    def adapters(
        self, config: AdapterConfig, seed: int = 0
    ) -> AbstractContextManager[dict[str, torch.nn.Parameter]]:
        """Attach a fresh LoRA (its output exactly zero) and yield its parameters by name. On leaving,
        the model is as it was."""
        ...

    def adapter_modules(self, target: str) -> list[str]:
        """The linear layers that an adapter with this ``target`` sits on."""
        ...

    def reference(self) -> AbstractContextManager[None]:
        """Within this context the adapter is off: the velocity is the base model's."""
        ...

    def with_lora(
        self, state: dict[str, Tensor], strength: float = 1.0
    ) -> AbstractContextManager[None]:
        """Within this context a trained LoRA (as ``lora.load`` returns it) is on."""
        ...

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """(out, in) of every linear layer that a LoRA may sit on, by module name."""
        ...

    def merge(self, host: Host, style: Style) -> None:
        """Merge a LoRA file into the base, for good; it becomes part of the identity.

        Raises:
            InputError: the file is no LoRA, or one for another model.
        """
        ...

    def quantize(self, host: Host, how: str) -> None:
        """Make the frozen network smaller, for good: "none", "8-bit" or "nf4"."""
        ...

    def checkpointed(self, on: bool = True) -> AbstractContextManager[None]:
        """Within this context a backward pass computes again what happens inside of each block."""
        ...

    def compiled(self, on: bool = True) -> AbstractContextManager[None]:
        """Within this context torch compiles the network's blocks: the first passes take longer, the
        others less; results agree up to rounding. ``InputError`` where torch cannot compile."""
        ...

    def activations_in_bytes(self, size: tuple[int, int], checkpointed: bool) -> int:
        """About how much one image of this size (in pixels) keeps for the backward pass."""
        ...

    def weights_in_bytes(self) -> int:
        """Bytes of the network's weights, without text encoders and VAE."""
        ...

    def network_weights(self) -> dict[str, Tensor]:
        """Copies of the network's weights on the CPU, in diffusers' names, for another program.

        Raises:
            InputError: they are quantized.
        """
        ...

    def text_tensors(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        """Encoded prompts as other programs know them: tokens ``[n, t, d]`` and summary ``[n, d]``."""
        ...


def seeded_noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal noise ``[len(seeds), *shape]``, float32, drawn on the CPU from one seed each, so
    that an image does not depend on its neighbours in the batch or on the device."""
    return torch.stack(
        [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    )
