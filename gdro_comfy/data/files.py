"""What lies on disk: one folder a run, below ``<output>/gdro/``.

    <run>-<key>/run.json              model, sampler, versions; the key is made of what images depend on
    <run>-<key>/prompts/<id>/         one folder a prompt, its id made of the text
        prompt.json                   the prompt
        conditioning.safetensors      the encoded prompt
        latents.safetensors           "latents" [G, c, h, w] float16; "seeds" [G]
        000.png, 001.png, ...         the decoded images
    <run>-<key>/scores/<reward>.jsonl one line an image
    <run>-<key>/train/<id>/           config.json, history.jsonl, checkpoint.safetensors, ...
        rounds/<n>/                   a run of its own: the groups of an online training's round

Every file is written to a temporary name, synced and renamed, so that a killed process leaves either
the old file or the new one; an image counts once its latent is in ``latents.safetensors``. Score and
history files grow by whole lines, and a last line cut short is ignored.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def digest(value: Any, length: int = 12) -> str:
    """A short stable name for a JSON-able value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a crash at any moment leaves the old content or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    write_atomic(path, lambda file: file.write(text.encode()))


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    from safetensors.torch import save

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, dict(metadata) if metadata else None)
    write_atomic(path, lambda file: file.write(data))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors that may enter autograd, also when called in inference mode."""
    import torch
    from safetensors.torch import load

    with torch.inference_mode(False):
        return load(path.read_bytes())


def append_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add JSON lines, synced; a broken last line of an earlier crash is closed off first."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    with open(path, "ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                text = "\n" + text
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """JSON lines; lines that a crash cut short are left out."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
    return rows


def write_png(path: Path, image: Image.Image) -> None:
    """Write a picture, atomically."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    write_atomic(path, lambda file: file.write(buffer.getvalue()))
