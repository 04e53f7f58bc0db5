"""A finished LoRA: what is on the wire GDRO_ALIGNED."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .files import digest, read_lines

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainResult:
    """A finished LoRA (``GDRO_ALIGNED``): its file, the folder of its training, and its model."""

    path: Path
    folder: Path
    steps: int
    model: dict[str, Any]

    def history(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "history.jsonl")

    def tensors(self) -> dict[str, Tensor]:
        """The LoRA as ComfyUI's ``LORA_MODEL``."""
        from ..data.files import read_tensors

        return read_tensors(self.path)

    def loss_map(self) -> dict[str, list[float]]:
        """The losses as ComfyUI's ``LOSS_MAP``."""
        return {"loss": [row["loss"] for row in self.history() if row.get("loss") is not None]}


def from_file(path: Path, output_dir: Path) -> TrainResult:
    """A LoRA file that GDRO Train LoRA wrote, with the folder of its training where that is here.

    Raises:
        InputError: the file is none of these.
    """
    from safetensors import SafetensorError, safe_open

    from ..data.aligned import TrainResult

    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        model, record = json.loads(header["gdro.base"]), json.loads(header["gdro.training"])
        steps = int(header["ss_steps"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(
            "lora_name",
            f"{path.name} is no LoRA that GDRO Train LoRA wrote",
            "Choose one from models/loras/gdro. A LoRA of another tool goes into loras on GDRO Load Base "
            "Model.",
        ) from error
    name = digest(record, 10)
    runs = output_dir / "gdro"
    found = next(runs.glob(f"*/train/{name}"), runs / "loaded" / "train" / name)
    found.mkdir(parents=True, exist_ok=True)
    return TrainResult(path, found, steps, model)
