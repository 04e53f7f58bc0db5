"""The weights of one part of a model file: read one tensor at a time into an empty module.

A tensor that is read as it is stored lies in the file that the system maps into memory, and takes none of
its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from .families import CLIP_G, CLIP_L, T5, TRANSFORMER, VAE
from .files import ModelFile
from .recognition import Part
from .stored_weights import Stored, replace

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
        """Read the tensor with this key and convert it."""
        return self.stored(key).cast(self._dtype)

    def stored(self, key: str) -> Stored:
        """Read the tensor with this key as it is stored, with its scale."""
        name = self._source.part.prefix + key
        tensor = self._file.get_tensor(name)
        module, _, end = name.rpartition(".")
        if self._source.file.dtypes[name] == "fp8" and end == "weight":
            for scale in (f"{module}.{kind}" for kind in _SCALES):
                if scale in self._source.file.shapes:
                    try:
                        return Stored(tensor, _of_rows(self._file.get_tensor(scale), tensor.shape))
                    except ValueError as error:
                        raise unlike_release(self._source, f"{scale} {error}") from error
        return Stored(tensor)


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


def _of_rows(scale: Tensor, shape: torch.Size) -> Tensor:
    """Return a scale of a weight ``[out, in]`` as ``Stored`` has it.

    Args:
        scale: of the whole weight, of its rows ``[out]``, or of blocks ``[out / a, in / b]`` or
            ``[out, in / b, 1]``.

    Raises:
        ValueError: it does not fit.
    """
    scale = scale.float()
    if scale.numel() == 1:
        return scale.reshape(())
    if scale.ndim == 3 and scale.shape[2] == 1:
        scale = scale[..., 0]
    if scale.ndim == 1:
        scale = scale[:, None]
    if scale.ndim != len(shape) or any(n % m for n, m in zip(shape, scale.shape, strict=True)):
        raise ValueError(f"has the shape {tuple(scale.shape)} for a weight of {tuple(shape)}")
    return scale.repeat_interleave(shape[0] // scale.shape[0], 0)


def fill(
    model: nn.Module,
    state: Mapping[str, Tensor | Stored],
    source: Source,
    dtype: torch.dtype,
    keep: Callable[[str, Stored], bool] = lambda name, weight: False,
) -> Any:
    """Assign all weights to an empty module and return it, frozen.

    Args:
        state: by name.
        dtype: that stored ones are converted to.
        keep: whether a linear layer keeps its weight as it is stored, and casts it when it computes.

    Raises:
        InputError: a weight is missing, left over or of another shape.
    """
    plain: dict[str, Tensor] = {}
    kept: dict[str, Stored] = {}
    for name, weight in state.items():
        if isinstance(weight, Tensor):
            plain[name] = weight
        elif _is_linear(model, name) and weight.is_cast_to(dtype) and keep(name, weight):
            kept[name] = weight
            plain[name] = torch.empty(weight.shape, device="meta")
        else:
            plain[name] = weight.cast(dtype)
    try:
        model.load_state_dict(plain, strict=True, assign=True)
    except RuntimeError as error:
        raise unlike_release(source, str(error).splitlines()[-1].strip()) from error
    for name, weight in kept.items():
        replace(model, name.removesuffix(".weight"), weight, dtype)
    return model.eval().requires_grad_(False)


def _is_linear(model: nn.Module, name: str) -> bool:
    """Return whether a name is that of a linear layer's weight."""
    module, _, end = name.rpartition(".")
    try:
        return end == "weight" and type(model.get_submodule(module)) is nn.Linear
    except AttributeError:  # no such module: loading the state says so
        return False


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
