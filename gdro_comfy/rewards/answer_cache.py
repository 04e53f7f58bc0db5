"""Answers of a judge that cost time or money: written to disk as they come, never asked for twice."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.files import append_lines, read_lines

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger(__name__)


def answer_key(image: Image.Image, question: str) -> str:
    """Return a name for this question about this image."""
    digest = hashlib.sha256(f"{image.mode} {image.size} {question}".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()[:32]


class AnswerCache:
    """Answers by key, in a file of JSON lines.

    If the file cannot be written, the log says so once and answers stay in memory.

    Args:
        path: the file; None keeps answers in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._rows: dict[str, dict[str, Any]] | None = None

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the answer of this key, if there is one."""
        if self._rows is None:
            rows = read_lines(self._path) if self._path else []
            self._rows = {row["key"]: row for row in rows if isinstance(row.get("key"), str)}
        return self._rows.get(key)

    def put(self, key: str, row: dict[str, Any]) -> None:
        """Store an answer; it is on disk when this returns."""
        self.get(key)
        assert self._rows is not None
        self._rows[key] = row
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            append_lines(self._path, [{"key": key, **row}])
        except OSError as error:
            log.warning("answers are not kept: %s cannot be written (%s)", self._path, error)
            self._path = None
