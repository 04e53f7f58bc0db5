"""A model file, read from its header only, which is enough to tell what a file of 20 GB contains."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data.safetensors_files import UnreadableFile, read_header
from ..errors import InputError
from .recognition import OTHER, Part, Shapes, recognise

_DTYPES = {
    "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "fp8", "F8_E5M2": "fp8",
    "U8": "packed bytes", "I8": "int8",
}  # fmt: skip
"""Words for the dtypes of safetensors."""
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})$")


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

    @property
    def sharded(self) -> bool:
        """Whether it is one of several files of a model, by its name."""
        return _SHARD.search(self.path.stem) is not None

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
    try:
        header = read_header(path)
    except UnreadableFile as error:
        raise _unreadable(path, input_name, error) from error
    dtypes = {name: _DTYPES.get(code, code.lower()) for name, code in header.dtypes.items()}
    kind, title, parts = recognise(header.shapes)
    shard = _SHARD.search(path.stem)
    if shard:
        kind, parts = OTHER, ()
        title = f"part {int(shard[1])} of {int(shard[2])} of a model in several files"
    return ModelFile(path, header.shapes, dtypes, kind, title, parts)


def _unreadable(path: Path, input_name: str, error: UnreadableFile) -> InputError:
    """Return the error for a file whose header cannot be read."""
    name = path.name
    if error.sizes:
        return InputError(
            input_name,
            f"{name} is incomplete: {error.sizes[0]:,} bytes of {error.sizes[1]:,}",
            error.remedy,
        )
    if error.kind == "GGUF":
        return InputError(
            input_name,
            f"{name} is a GGUF file, which is made for inference",
            "Choose the model's safetensors file, and nf4 as quantization: it takes as little memory.",
        )
    if error.kind == "pickle":
        return InputError(
            input_name,
            f"{name} is a pickle, which can run any code when it is opened",
            "Choose the model's safetensors file.",
        )
    return InputError(input_name, f"{name} {error.found.removeprefix('it ')}", error.remedy)
