"""Networks that judge: where their weights come from, and how long they stay on their device.

Weights are safetensors only, no code of a model's folder is run, and nothing is downloaded unless the user
allowed it.
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
    """A network that is loaded at its first use, and moves to the CPU when nobody uses it.

    Args:
        load: loads it on the CPU.
        device: where it computes.
    """

    def __init__(self, load: Callable[[], torch.nn.Module], device: torch.device | str) -> None:
        self._load, self._device = load, device
        self._module: Any = None
        self._users = 0

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._module is not None

    @contextlib.contextmanager
    def resident(self) -> Iterator[None]:
        """Leave the network on its device, once ``active`` has moved it there. May be nested."""
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
        """Yield the network on its device, without gradients. May be nested."""
        import torch

        with self.resident(), torch.no_grad():
            if self._module is None:
                with torch.inference_mode(False):
                    self._module = self._load().eval().requires_grad_(False)
            self._module.to(self._device)
            yield self._module


def load(
    kind: Any,
    source: Path | str,
    download: bool = False,
    input_name: str = "weights",
    **options: Any,
) -> Any:
    """Return ``kind.from_pretrained`` of a folder, or of a repository on the Hugging Face hub.

    Args:
        kind: a class of transformers with that method.
        download: a repository that is not on this machine may be downloaded.
        input_name: the input to name when loading fails.

    Raises:
        InputError: there is nothing to load, or the hub cannot be reached.
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
        raise _unavailable(str(source), download, error, input_name) from error


def load_model(
    kind: Any,
    source: Path | str,
    download: bool = False,
    input_name: str = "weights",
    **options: Any,
) -> Any:
    """Return a model as ``load`` does, with safetensors for all of its weights.

    transformers itself would fill a layer that the file lacks with random weights, and only log a line.

    Raises:
        InputError: it cannot be loaded, or the file lacks weights.
    """
    options = {"use_safetensors": True, "output_loading_info": True, **options}
    model, report = load(kind, source, download, input_name, **options)
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(
            input_name,
            f"{source} lacks {len(missing)} of the weights of a {kind.__name__} ({missing[0]}, ...)",
            "Choose the folder of a whole model of that kind.",
        )
    return model


def weight_file(source: Path | str, hint: str, download: bool = False) -> Path:
    """Return the weight file of a folder, or ``model.safetensors`` of a repository on the hub.

    Args:
        hint: chooses among several files of a folder the one whose name contains these letters and
            digits.

    Raises:
        InputError: there is none, or more than one.
    """
    if isinstance(source, str):
        return _hub_file(source, download)
    files = sorted(source.glob("*.safetensors"))
    named = [path for path in files if hint in "".join(filter(str.isalnum, path.stem.lower()))]
    if len(files) > 1 and len(named) == 1:
        return named[0]
    if len(files) != 1:
        raise InputError(
            "weights",
            f"{source} has {len(files)} files of weights (*.safetensors)",
            f"Leave one, or put {hint} into the name of the right one.",
        )
    return files[0]


def _hub_file(repository: str, download: bool) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repository, "model.safetensors", local_files_only=not download)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unavailable(repository, download, error, "weights") from error
    return Path(path)


def _unavailable(source: str, download: bool, error: Exception, input_name: str) -> InputError:
    if not download:
        return InputError(
            input_name,
            f"{source} is not on this machine",
            "Switch download on to fetch it from the Hugging Face hub, or choose a local folder.",
        )
    reason = " ".join(str(error).split())[:300]
    return InputError(
        input_name,
        f"{source} cannot be fetched from the Hugging Face hub ({reason})",
        "Check the network, or download the folder elsewhere and choose it here.",
    )


def fast_dtype(device: torch.device | str) -> torch.dtype:
    """Return what large networks compute in: float32 on a CPU, else bfloat16, or float16 without it."""
    import torch

    kind = torch.device(device).type
    if kind == "cpu":
        return torch.float32
    no_bfloat16 = kind == "cuda" and not torch.cuda.is_bf16_supported()
    return torch.float16 if no_bfloat16 else torch.bfloat16


def fingerprint(folder: Path) -> list[Any]:
    """Return which weights a folder holds, cheaply: names and sizes of safetensors and configuration."""
    files = sorted(folder.glob("*.safetensors")) + sorted(folder.glob("*config.json"))
    return [[file.name, file.stat().st_size] for file in files]
