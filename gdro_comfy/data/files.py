"""Atomic file access: JSON, JSON lines, tensors and images.

A file is written to a temporary name, synced and renamed, so that a process killed at any moment leaves
either the old content or the new one. Score and history files grow by whole lines; a last line cut short
by a crash is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .disk import explained
from .numbers import without_nan

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def digest(value: Any, length: int = 12) -> str:
    """Return a short stable name for a JSON-able value: the start of its SHA-256, in hexadecimal."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new one.

    Args:
        path: the file; its folder must exist.
        write: receives the open temporary file.

    Raises:
        DiskError: the disk is full, read-only or gone, or the folder cannot be written.
    """
    # Two threads, or two computers on one disk, may write the same file at once.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    with explained(path):
        try:
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            # Where it cannot be removed, the first error says why.
            with contextlib.suppress(OSError):
                temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically."""
    text = _json(value, indent=2) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines in the place of whatever the file held, atomically."""
    data = _json_lines(rows)
    write_atomic(path, lambda file: file.write(data))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors, atomically.

    Args:
        tensors: from any device; with or without gradients.
        metadata: the file's header.
    """
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, dict(metadata) if metadata else None)
    write_atomic(path, lambda file: file.write(data))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file into tensors that may enter autograd, even under inference mode."""
    import torch
    from safetensors.torch import load

    with torch.inference_mode(False):
        return load(path.read_bytes())


def read_header(path: Path) -> dict[str, str]:
    """Read the header of a safetensors file; empty if it has none."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(_json(row) + "\n" for row in rows).encode()


def _json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON that browsers read, too: null in the place of NaN and infinity."""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        plain = without_nan(value)
        return json.dumps(plain, ensure_ascii=False, indent=indent, allow_nan=False)


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append JSON lines and sync; a last line that a crash cut short is closed off first.

    Raises:
        DiskError: as in ``write_atomic``; some of the lines may have been written.
    """
    data = _json_lines(rows)
    with explained(path), open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                data = b"\n" + data
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    r"""Read JSON lines, empty if there is no such file.

    Lines end at ``\n`` alone: JSON allows other line separators, such as U+2028, inside a string. A
    line that is not a JSON object in UTF-8, as a crash or a full disk may leave it, is left out.
    """
    if not path.is_file():
        return []
    rows = []
    for line in path.read_bytes().split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def write_png(path: Path, image: Image.Image) -> None:
    """Write an image as PNG, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    write_atomic(path, lambda file: file.write(buffer.getvalue()))
