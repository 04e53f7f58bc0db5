"""Look after runs for a viewer: what is damaged, and what is left over; runs are named as in ``runs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data import leftovers, verify
from ..data.run_lock import writing
from . import runs


def check(output_dir: Path, name: str, lora_dir: Path) -> dict[str, Any]:
    """Read all files of a run and compare them with their checksums.

    Returns:
        "intact" and "unknown" files, and "findings": file, found, remedy, and whether it is remade.
    """
    folder = runs.find(output_dir, name)
    return verify.verify(folder, lora_dir).as_json(folder)


def set_damaged_aside(output_dir: Path, name: str, lora_dir: Path) -> dict[str, Any]:
    """Put damaged files that a run makes anew out of its way: ``check``'s answer, with "set_aside".

    Raises:
        InputError: another process writes into the run.
    """
    folder = runs.find(output_dir, name)
    with writing(folder):
        report = verify.verify(folder, lora_dir)
        return {**report.as_json(folder), "set_aside": verify.set_aside(report)}


def left_over(output_dir: Path, lora_dir: Path, delete: bool = False) -> dict[str, Any]:
    """List what is left over of interrupted writes, deleted runs and damaged files, or delete it.

    Returns:
        "bytes" of all, "leftovers" with file, kind and bytes, and "problems" in words.
    """
    found, problems = leftovers.find(output_dir, lora_dir), []
    if delete:
        found, problems = leftovers.delete(found)
    return {
        "bytes": sum(leftover.bytes for leftover in found),
        "leftovers": [
            {"file": leftover.path.name, "kind": leftover.kind, "bytes": leftover.bytes}
            for leftover in found
        ],
        "problems": problems,
    }
