"""Networks that judge: where their weights come from, and where they rest.

Weights are safetensors only, no code of a model's folder is run, and the hub is asked only where
the user allowed a download.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import torch


class Network:
    """A network that is loaded when first used, and rests on the CPU outside of ``active``.

    Args:
        make: loads it on the CPU.
        device: where it computes.
    """

    def __init__(self, make: Callable[[], torch.nn.Module], device: torch.device | str) -> None:
        self._make, self._device = make, device
        self._module: Any = None
        self._users = 0

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within this context the network stays where ``active`` has put it. May be nested."""
        import torch

        self._users += 1
        try:
            yield
        finally:
            self._users -= 1
            if self._users == 0 and self._module is not None:
                self._module.to("cpu")
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()

    @contextlib.contextmanager
    def active(self) -> Iterator[Any]:
        """The network on its device, without gradients. May be nested."""
        import torch

        with self.held(), torch.no_grad():
            if self._module is None:
                with torch.inference_mode(False):
                    self._module = self._make().eval().requires_grad_(False)
            self._module.to(self._device)
            yield self._module


def load(
    kind: Any,
    source: Path | str,
    download: bool = False,
    input_name: str = "weights",
    **options: Any,
) -> Any:
    """``kind.from_pretrained`` on a folder, or on a name of the hub.

    Args:
        kind: a class of transformers that has it.
        download: a hub name that is not on this machine yet may be fetched.
        input_name: the input to name when it fails.

    Raises:
        InputError: there is nothing to load, or the network cannot be reached.
    """
    local = isinstance(source, Path)
    try:
        return kind.from_pretrained(
            source, local_files_only=local or not download, trust_remote_code=False, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError) as error:
        reason = " ".join(str(error).split())[:300]
        if local:
            raise InputError(
                input_name,
                f"{source} cannot be loaded ({reason})",
                "Choose a folder in transformers' layout: config.json beside *.safetensors.",
            ) from error
        if not download:
            raise InputError(
                input_name,
                f"{source} is not on this machine",
                "Switch download on to fetch it from the Hugging Face hub, or choose a local folder.",
            ) from error
        raise InputError(
            input_name,
            f"{source} cannot be fetched from the Hugging Face hub ({reason})",
            "Check the network, or download the folder elsewhere and choose it here.",
        ) from error


def load_model(kind: Any, source: Path | str, download: bool = False, **options: Any) -> Any:
    """As ``load``, for weights: safetensors or nothing."""
    return load(kind, source, download, use_safetensors=True, **options)


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """What large networks compute in: float32 on a CPU, else bfloat16, or float16 where it lacks."""
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32
    lacks = kind == "cuda" and not torch.cuda.is_bf16_supported()
    return torch.float16 if lacks else torch.bfloat16


def fingerprint(folder: Path) -> list[Any]:
    """Which weights lie in a folder, cheaply: names and sizes of its safetensors and its config."""
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*config.json"))
    return [[file.name, file.stat().st_size] for file in files]
