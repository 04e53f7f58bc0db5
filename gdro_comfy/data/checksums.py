"""Checksums inside the files of a run, by which a flipped bit is seen where a file is read.

    safetensors    "gdro.checksum" in the header: the SHA-256 of the file with zeros in its place
    JSON           "checksum", the last entry: the CRC-32 of all bytes before it
    JSON lines     the same in every line

A checksum inside its file comes and goes with it: no crash, copy or deletion leaves it beside another
content. PNG has its own; the header of a group's latents has those of its images. A file without one, as
older versions and other programs write them, is unknown, not damaged.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

TENSORS_KEY = "gdro.checksum"
"""The entry of a safetensors header."""

_ZEROS = "0" * 64
_TENSORS = re.compile(rb'"gdro\.checksum":"(.{64})"', re.DOTALL)
_JSON = re.compile(rb',\s*"checksum": "(.{8})"\s*\}\s*\Z', re.DOTALL)
_LINE_END = b', "checksum": "'
_PNG_START = b"\x89PNG\r\n\x1a\n"


def crc(data: bytes | memoryview) -> str:
    """Return the CRC-32 of some bytes, 8 hexadecimal digits."""
    return f"{zlib.crc32(data):08x}"


def seal_json(text: str) -> bytes:
    """Return the text of a JSON object with its checksum as the last entry; that of ``{}`` as it is."""
    body = text.rstrip().removesuffix("}").rstrip()
    if body == "{":
        return text.encode()
    gap, end = (",\n  ", "\n}\n") if "\n" in body else (", ", "}")
    data = body.encode()
    return data + f'{gap}"checksum": "{crc(data)}"{end}'.encode()


def unseal_json(data: bytes) -> tuple[bytes, bool | None]:
    """Return the text of a JSON object without its checksum, and whether that fits; None without one."""
    match = _JSON.search(data[-64:]) if len(data) > 64 else _JSON.search(data)
    if match is None:
        return data, None
    body = data[: len(data) - (match.end() - match.start())]
    return body + b"}", crc(body).encode() == match[1]


def is_sealed_line(line: bytes) -> bool:
    """Return whether a JSON line has a checksum that fits."""
    return (
        line[-25:-10] == _LINE_END
        and line[-2:] == b'"}'
        and b"%08x" % zlib.crc32(memoryview(line)[:-25]) == line[-10:-2]
    )


def sealed_tensors(tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> list[memoryview]:
    """Return the parts of a safetensors file with its checksum.

    Args:
        tensors: on the CPU, contiguous.
        texts: the file's metadata.
    """
    from safetensors.torch import save

    data = memoryview(save(dict(tensors), {**texts, TENSORS_KEY: _ZEROS}))
    found = _TENSORS.search(_header(data))
    assert found is not None
    start, end = 8 + found.start(1), 8 + found.end(1)
    value = hashlib.sha256(data).hexdigest()
    return [data[:start], memoryview(value.encode()), data[end:]]


def tensors_fit(data: bytes | memoryview) -> bool | None:
    """Return whether the checksum of a safetensors file fits; None if it has none."""
    data = memoryview(data)
    found = _TENSORS.search(_header(data))
    if found is None:
        return None
    start, end = 8 + found.start(1), 8 + found.end(1)
    value = hashlib.sha256(data[:start])
    value.update(_ZEROS.encode())
    value.update(data[end:])
    return value.hexdigest().encode() == found[1]


def _header(data: memoryview) -> bytes:
    """Return the header of a safetensors file; as much as there is of one cut short."""
    return bytes(data[8 : 8 + min(int.from_bytes(data[:8], "little"), len(data))])


def png_fits(data: bytes) -> bool:
    """Return whether a PNG is complete and the checksums of all its parts fit."""
    if not data.startswith(_PNG_START):
        return False
    view, start = memoryview(data), len(_PNG_START)
    while start + 12 <= len(data):
        length = int.from_bytes(view[start : start + 4], "big")
        end = start + 12 + length
        if end > len(data):
            return False
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            return False
        if view[start + 4 : start + 8] == b"IEND":
            return True
        start = end
    return False
