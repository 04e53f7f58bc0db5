"""A finished LoRA: ``GDRO_ALIGNED`` on the wire."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .disk import make_folder
from .files import digest, read_tensors
from .runs import GROUPS, TRAININGS, SamplerChoice, read_settings
from .trainings import Training

if TYPE_CHECKING:
    from torch import Tensor

    from .prompts import Prompt


@dataclass(frozen=True)
class AlignedLoRA:
    """A finished LoRA.

    Args:
        path: its file.
        folder: of its training.
        steps: optimiser steps that it was trained for.
        model: the identity of its base model.
    """

    path: Path
    folder: Path
    steps: int
    model: dict[str, Any]

    @property
    def training(self) -> Training:
        """The training that made it."""
        return Training(self.folder)

    def sampler(self) -> SamplerChoice | None:
        """Return the sampler of the run it was trained on; None if the model had no choice."""
        stored = read_settings(self.folder.parent.parent).get("sampler")
        try:
            return SamplerChoice(**stored) if isinstance(stored, dict) else None
        except TypeError:
            return None

    def knows(self, prompt: Prompt) -> bool:
        """Return whether the run that it was trained on has a group of this prompt."""
        return (self.training.run_folder / GROUPS / digest(prompt.text)).is_dir()

    def history(self) -> list[dict[str, Any]]:
        """Read the training's history, one row per step."""
        return self.training.rows()

    def tensors(self) -> dict[str, Tensor]:
        """Read the LoRA as ComfyUI's ``LORA_MODEL``."""
        return read_tensors(self.path)

    def loss_map(self) -> dict[str, list[float]]:
        """Return the losses as ComfyUI's ``LOSS_MAP``."""
        return {"loss": [row["loss"] for row in self.history() if row.get("loss") is not None]}


def from_file(path: Path, output_dir: Path) -> AlignedLoRA:
    """Open a LoRA file that GDRO Train LoRA wrote, with the folder of its training if it is here.

    Raises:
        InputError: GDRO Train LoRA did not write it.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        model, record = json.loads(header["gdro.base"]), json.loads(header["gdro.training"])
        steps = int(header["ss_steps"])
    except (OSError, SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise InputError(
            "lora_name",
            f"{path.name} is no LoRA that GDRO Train LoRA wrote",
            "Choose one from models/loras/gdro. A LoRA of another tool goes into loras on GDRO Load Base "
            "Model.",
        ) from error
    name = digest(record, 10)
    runs = output_dir / "gdro"
    folder = next(runs.glob(f"*/{TRAININGS}/{name}"), runs / "loaded" / TRAININGS / name)
    make_folder(folder)
    return AlignedLoRA(path, folder, steps, model)
