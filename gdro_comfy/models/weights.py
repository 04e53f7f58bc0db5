"""The weights of one part of a file: read one at a time, in one dtype, into an empty module."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .files import CLIP_G, CLIP_L, T5, TRANSFORMER, VAE, ModelFile, Part

INPUTS = {TRANSFORMER: "transformer", CLIP_L: "clip_l", CLIP_G: "clip_g", T5: "t5", VAE: "vae"}
"""The node's input that a part is chosen at."""


@dataclass(frozen=True)
class Source:
    """A part and the file it is in."""

    file: ModelFile
    part: Part

    def shape(self, name: str) -> tuple[int, ...]:
        return self.file.shape(self.part, name)

    def count(self, pattern: str) -> int:
        return self.file.count(self.part, pattern)


class Reader:
    """A part's tensors, by key without its prefix, one at a time and in one dtype. 8-bit floats are
    multiplied by their scale, where they have one."""

    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        self._source, self._dtype = source, dtype
        prefix = source.part.prefix
        every = [
            name.removeprefix(prefix) for name in source.file.shapes if name.startswith(prefix)
        ]
        extra = ("scale_weight", "scale_input", "weight_scale", "input_scale", "comfy_quant")
        self.keys = [
            k for k in every if k.rpartition(".")[2] not in extra and not k.endswith("scaled_fp8")
        ]
        packed = [
            k for k in self.keys if source.file.dtypes[prefix + k] in ("packed bytes", "int8")
        ]
        if packed:
            raise InputError(
                INPUTS[source.part.kind],
                f"{source.file.path.name} is quantised in a way that cannot be trained ({packed[0]})",
                "Choose the file in fp16, bf16 or fp8, and quantization on this node.",
            )

    def __enter__(self) -> Reader:
        from safetensors import safe_open

        self._open = safe_open(self._source.file.path, "pt")
        self._file = self._open.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def read(self, key: str) -> Tensor:
        prefix = self._source.part.prefix
        tensor = self._file.get_tensor(prefix + key)
        if self._source.file.dtypes[prefix + key] != "fp8":
            return tensor.to(self._dtype)
        stem = (prefix + key).rpartition(".")[0]
        for name in (f"{stem}.scale_weight", f"{stem}.weight_scale"):
            if name in self._source.file.shapes:
                return (tensor.float() * self._file.get_tensor(name).float()).to(self._dtype)
        return tensor.to(self._dtype)


def fill(model: nn.Module, state: dict[str, Tensor], source: Source, input_name: str) -> Any:
    """Put all weights in; what is missing, left over or of another shape is the file's fault."""
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise strange(source, input_name, str(error).splitlines()[-1].strip()) from error
    return model.eval().requires_grad_(False)


def strange(source: Source, input_name: str, what: str) -> InputError:
    return InputError(
        input_name,
        f"{source.file.path.name} is {source.part.title}, but not as released ({what[:200]})",
        "Choose the file of the original release, not a cut or merged one.",
    )
