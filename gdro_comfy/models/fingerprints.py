"""Fingerprints of model files, read from their ends instead of all their gigabytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

_END = 1 << 20


def of_file(path: Path) -> str:
    """Return the fingerprint of a file: of its size, its first and its last megabyte."""
    return _digest(str(path.stat().st_size).encode(), path)


def of_part(folder: Path, part: str) -> str:
    """Return the fingerprint of a part of a model in diffusers' layout, wherever its folder is.

    Args:
        part: such as "transformer".
    """
    parts: list[bytes | Path] = []
    for path in sorted((folder / part).glob("*.safetensors")):
        parts += [f"{path.name} {path.stat().st_size}".encode(), path]
    return _digest(*parts)


def _digest(*parts: bytes | Path) -> str:
    """Return a digest of bytes, and of both ends of files."""
    summary = hashlib.sha256()
    for part in parts:
        if isinstance(part, bytes):
            summary.update(part)
            continue
        with open(part, "rb") as file:
            summary.update(file.read(_END))
            file.seek(max(0, part.stat().st_size - _END))
            summary.update(file.read(_END))
    return summary.hexdigest()[:16]
