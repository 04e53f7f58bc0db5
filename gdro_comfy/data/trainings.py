"""The layout of a training on disk: one folder per training, below its run.

<run>-<key>/train/<id>/           the id is a digest of everything the LoRA depends on
    config.json                   that record
    history.jsonl                 one line per step; the last one of a step counts
    checkpoint.safetensors        weights, averages and optimiser state of the last checkpoint
    samples/step_00050.png        previews
    validation/                   base.png, step_00050.png, base.json, best.safetensors
    rounds/01/                    a run: the groups of an online training's second round
    evaluations/<id>/             result.json, comparison.png, report.html
    evaluations/rollouts/<id>/    a run: the images that evaluations compare, base and aligned
    done.json                     the LoRA's file name; only a finished training has it
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import read_lines


@dataclass(frozen=True)
class Training:
    """A training's folder, and what lies where in it."""

    folder: Path

    @property
    def name(self) -> str:
        """Its id."""
        return self.folder.name

    @property
    def run_folder(self) -> Path:
        """The folder of its run."""
        return self.folder.parent.parent

    @property
    def run_name(self) -> str:
        """The folder name of its run."""
        return self.run_folder.name

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def history(self) -> Path:
        return self.folder / "history.jsonl"

    def rows(self) -> list[dict[str, Any]]:
        """Read the history, the last line of each step; one without a whole number for it is left out."""
        rows = (row for row in read_lines(self.history) if type(row.get("step")) is int)
        return list({row["step"]: row for row in rows}.values())

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.safetensors"

    @property
    def done(self) -> Path:
        return self.folder / "done.json"

    @property
    def samples(self) -> Path:
        return self.folder / "samples"

    @property
    def validation(self) -> Path:
        return self.folder / "validation"

    @property
    def evaluations(self) -> Path:
        return self.folder / "evaluations"

    @property
    def evaluation_rollouts(self) -> Path:
        return self.evaluations / "rollouts"

    def round(self, number: int) -> Path:
        """Return the run folder of an online round, counted from 0; round 0 trains on the first groups."""
        return self.folder / "rounds" / f"{number:02d}"


def step_sheet(folder: Path, step: int) -> Path:
    """Return the contact sheet of a step in ``Training.samples`` or ``Training.validation``."""
    return folder / f"step_{step:05d}.png"
