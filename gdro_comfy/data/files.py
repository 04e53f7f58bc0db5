"""Atomic file access: JSON, JSON lines, tensors and images.

A file is written to a temporary name, synced and renamed, so that a process killed at any moment leaves
either the old content or the new one. Score and history files grow by whole lines; a last line cut short
by a crash is ignored. Lines, records and tensors are written with a checksum (see ``checksums``), from the
bytes on their way to the disk.
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

from . import checksums
from .damage import CHANGED, DamagedFile
from .disk import explained
from .numbers import without_nan

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


_COPY = "Put a copy of it in its place."


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
    data = _json(value, indent=2).encode() + b"\n"
    write_atomic(path, lambda file: file.write(data))


def write_record(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with a checksum, atomically."""
    data = checksums.seal_json(_json(value, indent=2) + "\n")
    write_atomic(path, lambda file: file.write(data))


def read_record(path: Path) -> dict[str, Any]:
    """Read a JSON object, with a checksum or without.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object, or its checksum does not fit.
    """
    data, fits = checksums.unseal_json(path.read_bytes())
    if fits is False:
        raise ValueError(CHANGED)
    try:
        value = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a JSON object")
    return value


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON lines in the place of whatever the file held, atomically."""
    data = _json_lines(rows)
    write_atomic(path, lambda file: file.write(data))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors as safetensors with a checksum, atomically.

    Args:
        tensors: from any device; with or without gradients.
        metadata: the file's header.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    parts = checksums.sealed_tensors(plain, metadata or {})
    write_atomic(path, lambda file: file.writelines(parts))


def read_tensors(path: Path, remedy: str = _COPY) -> dict[str, Tensor]:
    """Read a safetensors file into tensors that may enter autograd, even under inference mode.

    Args:
        remedy: what to do if it is damaged.

    Raises:
        DamagedFile: it cannot be read, or its checksum does not fit.
    """
    return read_safetensors(path, remedy)[0]


def read_safetensors(path: Path, remedy: str = _COPY) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors of a file, as ``read_tensors`` does, and its metadata without the checksum."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
        if checksums.tensors_fit(data) is False:
            raise DamagedFile(path, CHANGED, remedy)
        with torch.inference_mode(False):
            tensors = load(data)
        texts = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__")
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise DamagedFile(path, "it is no safetensors file, or a part of one", remedy) from error
    except OSError as error:
        raise DamagedFile(path, f"it cannot be read ({error.strerror})", remedy) from error
    texts = dict(texts or {})
    texts.pop(checksums.TENSORS_KEY, None)
    return tensors, texts


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(checksums.seal_json(_json(row)) + b"\n" for row in rows)


def _json(value: Any, indent: int | None = None) -> str:
    """Return a value as JSON that browsers read, too: null in the place of NaN and infinity."""
    try:
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    except ValueError:
        value = without_nan(value)
        text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    # Half of a surrogate pair, as some programs leave it in metadata, has no UTF-8.
    return text if _is_text(text) else json.dumps(value, indent=indent, allow_nan=False)


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


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


def read_lines(path: Path, damaged: list[int] | None = None) -> list[dict[str, Any]]:
    r"""Read JSON lines, empty if there is no such file.

    Lines end at ``\n`` alone: JSON allows other line separators, such as U+2028, inside a string. A
    line that is not a JSON object in UTF-8, as a crash or a full disk may leave it, is left out, and so
    is one whose checksum does not fit.

    Args:
        damaged: receives the numbers of those that are left out, from 1 on.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    # Parsed at once, a score file of 100,000 lines is read three times as fast.
    sealed = [index for index, line in enumerate(lines) if checksums.is_sealed_line(line)]
    parsed = dict(zip(sealed, _parse_objects([lines[index] for index in sealed]), strict=False))
    rows = []
    for index, line in enumerate(lines):
        row = parsed.get(index)
        if row is not None:
            row.pop("checksum")
        elif line:
            row = read_line(line)
        if row is not None:
            rows.append(row)
        elif line and damaged is not None:
            damaged.append(index + 1)
    return rows


def _parse_objects(lines: list[bytes]) -> list[dict[str, Any]]:
    """Parse lines that this pack wrote; nothing if they are not one object each after all."""
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        return []
    whole = len(values) == len(lines) and all("checksum" in v for v in values if type(v) is dict)
    return values if whole and all(type(value) is dict for value in values) else []


def read_line(line: bytes) -> dict[str, Any] | None:
    """Read one JSON line without its checksum; None if it is damaged."""
    text, fits = checksums.unseal_json(line)
    if fits is False:
        return None
    try:
        row = json.loads(text.decode())
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def png_bytes(image: Image.Image) -> bytes:
    """Return an image as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def write_png(path: Path, image: Image.Image) -> None:
    """Write an image as PNG, atomically."""
    data = png_bytes(image)
    write_atomic(path, lambda file: file.write(data))
