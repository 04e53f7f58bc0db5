"""Load a bundled model or a diffusers folder as a ``FlowModel``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.safetensors_files import UnreadableFile, read_header
from ..errors import InputError
from . import fingerprints
from .families import FAMILIES, FLUX, SD3, Family, by_pipeline

if TYPE_CHECKING:
    import torch

    from .base import FlowModel

_ASSETS = Path(__file__).parent.parent / "assets"
BUNDLED = {"tiny SD3": "tiny_sd3"}
"""Folders of the bundled models, by the name shown to users."""
_LEAST_VOCABULARY = 0.1
"""The part of an encoder's tokens that its tokenizer has to know; without its files it knows a handful."""
DTYPES = ("auto", "float32", "bfloat16", "float16")


def bundled_folder(name: str = "tiny SD3") -> Path:
    """Return the folder of a bundled model, by the name shown to users."""
    if name not in BUNDLED:
        raise InputError(
            "model", f"{name!r} is not bundled", f"Choose one of: {', '.join(BUNDLED)}."
        )
    return _ASSETS / BUNDLED[name]


def load(folder: Path, device: torch.device, dtype: str = "auto") -> FlowModel:
    """Load a diffusers folder of a known family; nothing is downloaded.

    Args:
        folder: with ``model_index.json``.
        device: where to compute; the weights stay on the CPU until the model is active.
        dtype: one of ``DTYPES``; "auto" is bfloat16 on a GPU that supports it, float16 on any other,
            float32 on a CPU.

    Raises:
        InputError: the folder is no pipeline of a known family, or lacks a part.
    """
    import torch
    from safetensors import SafetensorError

    index = _read_index(folder)
    pipeline_name = index.get("_class_name")
    family = by_pipeline(pipeline_name)
    if family is None:
        known = ", ".join(f"{family.title} ({family.pipeline})" for family in FAMILIES)
        raise InputError(
            "folder", f"{folder} holds a {pipeline_name}", f"Choose a folder of: {known}."
        )
    for part, value in index.items():
        used = isinstance(value, list) and len(value) == 2 and value[0] is not None
        if used and part not in family.optional and not (folder / part).is_dir():
            raise InputError(
                "folder", f"{folder} lacks its part {part!r}", "Download or copy the folder again."
            )
    _check_files(folder, index)
    missing = [name for name in family.optional if not (folder / name).is_dir()]
    with torch.inference_mode(False):
        try:
            tokenizers = _fast_tokenizers(folder)
            pipeline = family.pipeline_class().from_pretrained(
                folder,
                **{_dtype_keyword(): dtype_of(dtype, device)},
                local_files_only=True,
                use_safetensors=True,
                **dict.fromkeys(missing),
                **dict.fromkeys(tokenizers),
            )
            for name, tokenizer in tokenizers.items():
                setattr(pipeline, name, tokenizer)
            if "tokenizer" in tokenizers:
                pipeline.tokenizer_max_length = tokenizers["tokenizer"].model_max_length
        except (
            OSError,
            ValueError,
            LookupError,
            TypeError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise InputError(
                "folder",
                f"{folder} cannot be loaded ({error})",
                "Download or copy the folder again.",
            ) from error
        _check_tokenizers(folder, pipeline)
        encoders = [part for part in index if part.startswith("text_encoder")]
        identity = {
            "pipeline": pipeline_name,
            "transformer": fingerprints.of_part(folder, "transformer"),
            "dtype": str(pipeline.transformer.dtype).removeprefix("torch."),
            "quantization": "none",
            "text_encoders": {
                part: fingerprints.of_part(folder, part)
                for part in encoders
                if (folder / part).is_dir()
            },
            "vae": fingerprints.of_part(folder, "vae"),
        }
        return flow_model(family, pipeline, identity, device)


def _check_files(folder: Path, parts: Iterable[str]) -> None:
    """Raise ``InputError`` for a file of weights in the folder that is damaged, or none at all."""
    for part in parts:
        for path in sorted((folder / part).glob("*.safetensors")):
            try:
                read_header(path)
            except UnreadableFile as error:
                raise InputError(
                    "folder",
                    f"{folder} cannot be loaded ({part}/{path.name} {error.found.removeprefix('it ')})",
                    error.remedy,
                ) from error


def _check_tokenizers(folder: Path, pipeline: Any) -> None:
    """Raise ``InputError`` for a tokenizer that lacks its vocabulary: it reads every prompt alike."""
    for end in ("", "_2", "_3"):
        tokenizer = getattr(pipeline, f"tokenizer{end}", None)
        encoder = getattr(pipeline, f"text_encoder{end}", None)
        if tokenizer is None or encoder is None:
            continue
        known, needed = len(tokenizer), encoder.config.vocab_size
        if known < needed * _LEAST_VOCABULARY:
            raise InputError(
                "folder",
                f"{folder.name}/tokenizer{end} knows {known} of the {needed} tokens of its text encoder: "
                "some of its files are missing",
                "Download or copy the folder again, with vocab.json and merges.txt, or tokenizer.json.",
            )


def _fast_tokenizers(folder: Path) -> dict[str, Any]:
    """Load the tokenizers that consist of a tokenizer.json, which transformers 4 does not do by itself.

    It looks for the files of the slow tokenizer that the pipeline names, as does diffusers' check of types.
    """
    import transformers

    if int(transformers.__version__.partition(".")[0]) >= 5:
        return {}
    return {
        name: transformers.PreTrainedTokenizerFast.from_pretrained(
            folder / name, local_files_only=True
        )
        for name in ("tokenizer", "tokenizer_2", "tokenizer_3")
        if (folder / name / "tokenizer.json").is_file()
        and not any((folder / name / other).is_file() for other in ("vocab.json", "spiece.model"))
    }


def flow_model(
    family: Family, pipeline: Any, identity: dict[str, Any], device: torch.device
) -> FlowModel:
    """Wrap a loaded diffusers pipeline.

    Args:
        identity: see ``FlowModel.identity``.
        device: where to compute.
    """
    return _MODELS[family.key]()(pipeline, identity, device)


def _sd3() -> type[Any]:
    from .sd3 import SD3Model

    return SD3Model


def _flux() -> type[Any]:
    from .flux import FluxModel

    return FluxModel


_MODELS = {SD3.key: _sd3, FLUX.key: _flux}
"""Functions that import the class of a family's models, by its key."""


def _read_index(folder: Path) -> dict[str, Any]:
    """Return ``model_index.json``, which lists the parts of a pipeline."""
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "folder",
            f"{folder} has no readable model_index.json",
            "Choose a folder in diffusers' layout: model_index.json beside transformer/, vae/, ...",
        ) from error
    if not isinstance(index, dict):
        raise InputError(
            "folder", f"{folder}'s model_index.json is not a JSON object", "Copy it again."
        )
    return index


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype of the weights for one of ``DTYPES``; for "auto", see ``load``."""
    import torch

    if name not in DTYPES:
        raise InputError("dtype", f"{name!r} is unknown", f"Choose one of: {', '.join(DTYPES)}.")
    if name != "auto":
        return getattr(torch, name)
    if device.type == "cpu":
        return torch.float32
    # Older cards only emulate bfloat16, at a fraction of the speed.
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def _dtype_keyword() -> str:
    """Return what ``from_pretrained`` calls the dtype: diffusers renamed the argument in 0.40."""
    import diffusers
    from packaging.version import Version

    return "dtype" if Version(diffusers.__version__) >= Version("0.40.0") else "torch_dtype"
