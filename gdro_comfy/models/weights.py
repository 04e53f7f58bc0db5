"""The weights of one part of a model file: read one tensor at a time into an empty module."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .families import CLIP_G, CLIP_L, T5, TRANSFORMER, VAE
from .files import ModelFile
from .recognition import Part

INPUTS = {TRANSFORMER: "transformer", CLIP_L: "clip_l", CLIP_G: "clip_g", T5: "t5", VAE: "vae"}
"""The node's input at which each kind of part is chosen."""

_SCALES = ("scale_weight", "weight_scale", "weight_scale_inv")
_QUANTIZATION_KEYS = (*_SCALES, "weight_scale_2", "scale_input", "input_scale", "comfy_quant")
"""Last components of names that belong to the quantization of a file, not to the module."""
_TOKENIZERS = ("spiece_model", "tokenizer_json")
"""Files that ComfyUI packs into text encoders, as bytes."""
_NOT_FLOATS = ("packed bytes", "int8", "f8_e8m0", "f4")


@dataclass(frozen=True)
class Source:
    """A part of a model and the file that contains it."""

    file: ModelFile
    part: Part

    @property
    def input_name(self) -> str:
        """The node's input for this kind of part."""
        return INPUTS[self.part.kind]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of the part's tensor, ``()`` if it has no such tensor."""
        return self.file.shape(self.part, name)

    def count(self, pattern: str) -> int:
        """Return how many numbered modules it has; ``pattern`` has ``{}`` for the number."""
        return self.file.count(self.part, pattern)


class Reader:
    """The tensors of a part, read one at a time and converted to one dtype.

    Weights in 8-bit floats are multiplied by their scale, if the file has one: a number, or one for each
    row or block. Use it as a context manager: it keeps the file open.

    Args:
        source: the part.
        dtype: of the tensors that are returned.

    Raises:
        InputError: the file is quantized in another way than to 8-bit floats.
    """

    keys: list[str]
    """Names of the part's tensors, without its prefix."""

    def __init__(self, source: Source, dtype: torch.dtype) -> None:
        self._source, self._dtype = source, dtype
        prefix = source.part.prefix
        names = [n.removeprefix(prefix) for n in source.file.shapes if n.startswith(prefix)]
        self.keys = [
            name
            for name in names
            if name.rpartition(".")[2] not in (*_QUANTIZATION_KEYS, *_TOKENIZERS)
            and not name.endswith("scaled_fp8")
        ]
        check_quantization(source)

    def __enter__(self) -> Reader:
        from safetensors import safe_open

        self._open = safe_open(self._source.file.path, "pt")
        self._file = self._open.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def read(self, key: str) -> Tensor:
        """Read the tensor with this key."""
        name = self._source.part.prefix + key
        tensor = self._file.get_tensor(name)
        if self._source.file.dtypes[name] != "fp8":
            return tensor.to(self._dtype)
        module, _, end = name.rpartition(".")
        for scale in (f"{module}.{kind}" for kind in _SCALES):
            if end == "weight" and scale in self._source.file.shapes:
                factors = self._file.get_tensor(scale).float()
                try:
                    return (tensor.float() * _expanded(factors, tensor.shape)).to(self._dtype)
                except ValueError as error:
                    raise unlike_release(self._source, f"{scale} {error}") from error
        return tensor.to(self._dtype)


def check_quantization(source: Source) -> None:
    """Raise ``InputError`` if weights of a part, or their scales, are not plain numbers."""
    prefix, dtypes = source.part.prefix, source.file.dtypes
    packed = [
        name
        for name, dtype in dtypes.items()
        if dtype in _NOT_FLOATS
        and name.startswith(prefix)
        and name.rpartition(".")[2] not in ("comfy_quant", *_TOKENIZERS)
    ]
    if packed:
        raise InputError(
            source.input_name,
            f"{source.file.path.name} is quantized in a format that cannot be trained on ({packed[0]})",
            "Choose the file in fp16, bf16 or fp8, and quantization on this node.",
        )


def _expanded(scale: Tensor, shape: Sequence[int]) -> Tensor:
    """Return a scale in the shape of a weight ``[out, in]`` that it was made for.

    Args:
        scale: of the whole weight, of its rows ``[out]``, or of blocks ``[out / a, in / b]`` or
            ``[out, in / b, 1]``.

    Raises:
        ValueError: it does not fit.
    """
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.ndim == 3 and scale.shape[2] == 1:
        scale = scale[..., 0]
    if scale.ndim == 1:
        scale = scale[:, None]
    if scale.ndim != len(shape) or any(n % m for n, m in zip(shape, scale.shape, strict=True)):
        raise ValueError(f"has the shape {tuple(scale.shape)} for a weight of {tuple(shape)}")
    for dim, (n, m) in enumerate(zip(shape, scale.shape, strict=True)):
        scale = scale.repeat_interleave(n // m, dim)
    return scale


def fill(model: nn.Module, state: dict[str, Tensor], source: Source) -> Any:
    """Assign all weights to an empty module and return it, frozen.

    Raises:
        InputError: a weight is missing, left over or of another shape.
    """
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise unlike_release(source, str(error).splitlines()[-1].strip()) from error
    return model.eval().requires_grad_(False)


@contextlib.contextmanager
def checked(source: Source) -> Iterator[None]:
    """Turn what goes wrong with the shapes of a part into an ``InputError`` that names its file."""
    try:
        yield
    except InputError:
        raise
    except (LookupError, ValueError, TypeError, RuntimeError, ArithmeticError, OSError) as error:
        raise unlike_release(source, f"{type(error).__name__}: {error}") from error
    except Exception as error:
        if type(error).__name__ != "SafetensorError":
            raise
        raise unlike_release(source, str(error)) from error


def unlike_release(source: Source, difference: str) -> InputError:
    """Return the error for a part whose tensors are not those of the original release."""
    return InputError(
        source.input_name,
        f"{source.file.path.name} is {source.part.title}, but not as released ({difference[:200]})",
        "Choose the file of the original release, not a cut or merged one.",
    )
