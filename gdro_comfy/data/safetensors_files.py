"""Safetensors files: their headers, their tensors, and what a file is that is none.

A safetensors file starts with eight bytes, the length of its header, and the header in JSON: names, shapes,
dtypes and positions of its tensors, and a map of texts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .damage import DamagedFile

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_HEADER = 100 << 20
_LONGEST_POINTER = 1024
_NOT_ONE = "not a safetensors file, or only part of one"


class UnreadableFile(ValueError):
    """A file that is no safetensors file, or a damaged one.

    Args:
        found: what it is, as a sentence about "it".
        remedy: what to do.
        sizes: of an incomplete file, its size in bytes and the one that its header asks for.
        kind: "GGUF" or "pickle" for such a file.
    """

    def __init__(
        self, found: str, remedy: str, sizes: tuple[int, int] | None = None, kind: str = ""
    ) -> None:
        self.found, self.remedy, self.sizes, self.kind = found, remedy, sizes, kind
        super().__init__(f"{found}. {remedy}")


@dataclass(frozen=True)
class Header:
    """What the header of a file says.

    Args:
        shapes: shapes of the tensors by name.
        dtypes: their dtypes by name, as safetensors spells them ("BF16").
        texts: the file's metadata.
    """

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]
    texts: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Read the header of a file without its tensors.

    Raises:
        UnreadableFile: it is no safetensors file, or an incomplete one.
    """
    size, length, raw = _raw_header(path)
    texts = raw.pop("__metadata__", None)
    try:
        shapes = {name: tuple(int(n) for n in entry["shape"]) for name, entry in raw.items()}
        dtypes = {name: str(entry["dtype"]) for name, entry in raw.items()}
        end = max((int(entry["data_offsets"][1]) for entry in raw.values()), default=0)
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        raise _damaged() from error
    if any(n < 0 for shape in shapes.values() for n in shape):
        raise _damaged()
    if 8 + length + end > size:
        raise UnreadableFile(
            f"it is incomplete: {size:,} bytes of {8 + length + end:,}",
            "Download or copy the file again.",
            (size, 8 + length + end),
        )
    texts = texts if isinstance(texts, dict) else {}
    return Header(shapes, dtypes, {str(name): str(text) for name, text in texts.items()})


def read(path: Path) -> tuple[dict[str, Tensor], Header]:
    """Read all tensors, which may enter autograd even under inference mode, and the header.

    Raises:
        UnreadableFile: it is no safetensors file, or an incomplete one.
    """
    from safetensors import SafetensorError

    from .files import read_tensors

    header = read_header(path)
    try:
        return read_tensors(path), header
    except DamagedFile as error:
        raise UnreadableFile(
            "it is damaged, or only part of a file", "Download or copy the file again."
        ) from error
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UnreadableFile(
            f"it cannot be read ({error})", "Download or copy the file again."
        ) from error


def _raw_header(path: Path) -> tuple[int, int, dict[str, Any]]:
    """Return the size of a file, the length of its header, and the header."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(8)
            length = int.from_bytes(first, "little")
            fits = 2 <= length <= min(size - 8, _LONGEST_HEADER)
            text = file.read(length) if fits else b""
            file.seek(0)
            start = b"" if fits else file.read(_LONGEST_POINTER)
    except OSError as error:
        raise UnreadableFile(
            f"it cannot be opened ({error.strerror})", "Choose another file."
        ) from error
    if not text:
        raise _other_format(start, size)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged() from error
    if not isinstance(header, dict):
        raise _damaged()
    return size, length, header


def _other_format(start: bytes, size: int) -> UnreadableFile:
    """Return the error for a file whose first bytes are not those of a safetensors file."""
    if not size:
        return UnreadableFile(f"it is empty: {_NOT_ONE}", "Download or copy the file again.")
    if start.startswith(b"version https://git-lfs"):
        return UnreadableFile(
            f"it is a pointer of Git LFS, a few lines in the place of the file: {_NOT_ONE}",
            "Run git lfs pull in its folder, or download the file itself.",
        )
    if start[:4] == b"GGUF":
        return UnreadableFile(
            "it is a GGUF file, which is made for inference",
            "Choose the safetensors file.",
            kind="GGUF",
        )
    if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        return UnreadableFile(
            "it is a pickle, which can run any code when it is opened",
            "Choose the safetensors file.",
            kind="pickle",
        )
    if start.lstrip()[:1] == b"<":
        return UnreadableFile(
            f"it is a web page, as a download without a login saves it: {_NOT_ONE}",
            "Log in where the file comes from, and download it again.",
        )
    return _damaged()


def _damaged() -> UnreadableFile:
    return UnreadableFile(
        f"it is {_NOT_ONE}",
        "Choose a .safetensors file; if it is one, download or copy it again.",
    )
