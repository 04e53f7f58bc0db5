"""A model file, read from its header only.

A safetensors file starts with eight bytes, the length of its header, and the header in JSON: the names,
shapes and dtypes of its tensors. That is enough to tell what a file of 20 GB contains.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .recognition import Part, Shapes, recognise

_LONGEST_HEADER = 100 << 20
_DTYPES = {
    "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "U8": "packed bytes", "I8": "int8",
}  # fmt: skip
"""Words for the dtypes of safetensors."""


@dataclass(frozen=True)
class ModelFile:
    """A safetensors file: its tensors, and the parts that were recognised.

    Args:
        path: the file.
        shapes: shapes of its tensors, by name.
        dtypes: their dtypes, in the words of messages.
        kind: the kind of its only part, or LORA, CHECKPOINT or OTHER.
        title: what it is, in words.
        parts: the models in it.
    """

    path: Path
    shapes: Shapes
    dtypes: Mapping[str, str]
    kind: str
    title: str
    parts: tuple[Part, ...]

    def part(self, kind: str) -> Part | None:
        """Return its part of a kind; None if it has none."""
        return next((part for part in self.parts if part.kind == kind), None)

    def shape(self, part: Part, name: str) -> tuple[int, ...]:
        """Return the shape of a part's tensor, ``()`` if it has no such tensor."""
        return self.shapes.get(part.prefix + name, ())

    def count(self, part: Part, pattern: str) -> int:
        """Return how many numbered modules a part has; ``pattern`` has ``{}`` for the number."""
        for number in range(256):
            module = part.prefix + pattern.format(number)
            if not any(name.startswith(module) for name in self.shapes):
                return number
        return 256

    def dtype(self, part: Part) -> str:
        """Return the dtype of most of a part's weights."""
        weights: Counter[str] = Counter()
        for name, dtype in self.dtypes.items():
            if name.startswith(part.prefix):
                weights[dtype] += math.prod(self.shapes[name])
        return weights.most_common(1)[0][0]

    def describe(self) -> str:
        """Return what it is for messages, such as "a FLUX.1 transformer (fp8, 11.9 GB)"."""
        size = self.path.stat().st_size / 1e9
        dtype = f"{self.dtype(self.parts[0])}, " if len(self.parts) == 1 else ""
        return f"{self.title} ({dtype}{size:.1f} GB)" if size >= 0.05 else self.title


def read(path: Path, input_name: str) -> ModelFile:
    """Read the header of a file and recognise what the file contains.

    Args:
        input_name: the node's input at which it was chosen, for messages.

    Raises:
        InputError: it is not a safetensors file, or an incomplete one.
    """
    header = _header(path, input_name)
    header.pop("__metadata__", None)
    try:
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in header.items()}
        codes = {name: str(entry["dtype"]) for name, entry in header.items()}
        dtypes = {name: _DTYPES.get(code, code.lower()) for name, code in codes.items()}
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(path, input_name) from error
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
    size = path.stat().st_size
    if start + end > size:
        raise InputError(
            input_name,
            f"{path.name} is incomplete: {size:,} bytes of {start + end:,}",
            "Download or copy the file again.",
        )
    kind, title, parts = recognise(shapes)
    return ModelFile(path, shapes, dtypes, kind, title, parts)


def _header(path: Path, input_name: str) -> dict[str, Any]:
    """Return the header of a safetensors file."""
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            fits = 2 <= length <= min(size - 8, _LONGEST_HEADER)
            text = file.read(length) if fits else b""
    except OSError as error:
        raise InputError(
            input_name, f"{path.name} cannot be read ({error.strerror})", "Choose another file."
        ) from error
    if first[:4] == b"GGUF":
        raise InputError(
            input_name,
            f"{path.name} is a GGUF file, which is made for inference",
            "Choose the model's safetensors file, and nf4 as quantization: it takes as little memory.",
        )
    if first[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise InputError(
            input_name,
            f"{path.name} is a pickle, which can run any code when it is opened",
            "Choose the model's safetensors file.",
        )
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, input_name) from error
    if not isinstance(header, dict):
        raise _damaged(path, input_name)
    return header


def _damaged(path: Path, input_name: str) -> InputError:
    return InputError(
        input_name,
        f"{path.name} is not a safetensors file, or only part of one",
        "Choose a .safetensors file; if it is one, download or copy it again.",
    )
