"""The archive of the pack as the registry and ComfyUI-Manager have it."""

from __future__ import annotations

import fnmatch
import subprocess
import zipfile
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2]


def shipped() -> list[str]:
    """Return the tracked files that are in the archive."""
    done = subprocess.run(
        ["git", "ls-files"], cwd=PACK, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    lines = (PACK / ".comfyignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]

    def ignored(name: str) -> bool:
        return any(
            name.startswith(pattern) if pattern.endswith("/") else fnmatch.fnmatch(name, pattern)
            for pattern in patterns
        )

    return [name for name in done.stdout.splitlines() if not ignored(name)]


def pack_into(path: Path) -> None:
    """Write the archive, with the names of its files relative to the pack's folder."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in shipped():
            if (PACK / name).is_file():
                archive.write(PACK / name, name)
