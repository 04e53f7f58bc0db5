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

    @property
    def loaded(self) -> bool:
        return self._module is not None

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
        raise _not_here(str(source), download, error, input_name) from error


def load_model(
    kind: Any,
    source: Path | str,
    download: bool = False,
    input_name: str = "weights",
    **options: Any,
) -> Any:
    """As ``load``, for weights: safetensors or nothing, and all of them. Without this check, a layer
    that is not in the file would be a random one, with no more than a line in the log."""
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
    """The file of weights in a folder, or in a repository of the hub (``model.safetensors``).

    Args:
        hint: where a folder has several, the one with these letters and digits in its name.

    Raises:
        InputError: there is none, or more than one.
    """
    if isinstance(source, str):
        return _hub_file(source, download)
    found = sorted(source.glob("*.safetensors"))
    plain = {path: "".join(filter(str.isalnum, path.stem.lower())) for path in found}
    named = [path for path in found if hint in plain[path]]
    if len(found) > 1 and len(named) == 1:
        found = named
    if len(found) != 1:
        raise InputError(
            "weights",
            f"{source} has {len(found)} files of weights (*.safetensors)",
            f"Leave one, or put {hint} into the name of the one that is meant.",
        )
    return found[0]


def _hub_file(repository: str, download: bool) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(repository, "model.safetensors", local_files_only=not download)
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_here(repository, download, error, "weights") from error
    return Path(path)


def _not_here(source: str, download: bool, error: Exception, input_name: str) -> InputError:
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
