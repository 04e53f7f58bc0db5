"""The host for a terminal."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..host import TOKENIZERS, picture_folders
from ..progress import Cancelled
from ..rewards.openai_wire import KEYS_VARIABLE

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from ..models.base import FlowModel

log = logging.getLogger(__name__)


class ConsoleHost:
    """A ``Host`` with tqdm progress bars and one output folder.

    Args:
        output_dir: for runs, images and LoRA files; created when first needed.
        quiet: show no progress bars.
        input_dir: holds the folders of images that can be imported; the default is the input folder of
            the ComfyUI in COMFYUI_PATH, or else "input".
    """

    def __init__(
        self,
        output_dir: Path | str = "output",
        quiet: bool = False,
        input_dir: Path | str | None = None,
    ) -> None:
        self._output = Path(output_dir).absolute()
        self._input = Path(input_dir or (_comfyui() or Path()) / "input").absolute()
        self._quiet = quiet
        self._bar = None
        self._stage = ""
        self._cancelled = False

    @property
    def output_dir(self) -> Path:
        return self._output

    @property
    def lora_dir(self) -> Path:
        return self._output / "loras"

    def progress(
        self, value: int, total: int, stage: str = "", preview: Image.Image | None = None
    ) -> None:
        if self._quiet:
            return
        from tqdm import tqdm

        bar, stage = self._bar, stage.partition(", about ")[0]  # tqdm estimates the time left
        if bar is None or self._stage != stage or bar.total != total or value < bar.n:
            if bar is not None:
                bar.close()
            bar = self._bar = tqdm(total=total, desc=stage, dynamic_ncols=True)
            self._stage = stage
        bar.update(value - bar.n)
        if value >= total:
            bar.close()
            self._bar = None

    def cancel(self) -> None:
        """Make the next ``check_cancelled`` raise."""
        self._cancelled = True

    def check_cancelled(self) -> None:
        if self._cancelled:
            self._cancelled = False
            raise Cancelled

    def emit(self, event: str, payload: Mapping[str, object]) -> None:
        log.debug("%s %s", event, payload)

    def model_files(self, kind: str) -> dict[str, Path]:
        if kind == "pictures":
            return picture_folders(self._input, self._output)
        comfyui = _comfyui()
        folders = [self._output / kind]
        if comfyui is not None:
            folders += [comfyui / "models" / name for name in _COMFYUI_FOLDERS.get(kind, ())]
        files: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                files.setdefault(path.name, path)
        return files

    def model_dir(self, kind: str) -> Path:
        return self._output / kind

    def tokenizer_dir(self, kind: str) -> Path:
        comfyui = _comfyui()
        if comfyui is None:
            raise InputError(
                "source",
                "single files contain no tokenizers, and COMFYUI_PATH names no ComfyUI to take them from",
                "Set the environment variable COMFYUI_PATH to a ComfyUI folder, or use a diffusers "
                "folder.",
            )
        return comfyui / TOKENIZERS[kind]

    def judge_keys(self) -> str:
        return os.environ.get(KEYS_VARIABLE, "")

    def device(self) -> torch.device:
        import torch

        if torch.cuda.is_available():
            return torch.device("cuda")
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")

    def free_memory(self) -> None:
        """Do nothing: a console keeps no models of its own on the device."""

    def patch_model(self, model: Any, lora_file: Path, strength: float) -> Any:
        raise InputError(
            "model",
            "a ComfyUI MODEL exists only inside ComfyUI",
            "Open the workflow there, or use GDRO Generate instead.",
        )

    def native_model(self, model: FlowModel) -> tuple[Any, Any, Any]:
        return self.patch_model(model, Path(), 0.0)

    def wire_model(self, model: Any, clip: Any, vae: Any) -> Any:
        raise InputError(
            "model",
            "a ComfyUI MODEL exists only inside ComfyUI",
            "Open the workflow there, or use GDRO Load Base Model instead.",
        )


_COMFYUI_FOLDERS = {
    "transformers": ("diffusion_models", "unet", "checkpoints"),
    "text_encoders": ("text_encoders", "clip"),
    "vae": ("vae",),
    "diffusers": ("diffusers",),
}


def _comfyui() -> Path | None:
    """Return the ComfyUI folder that COMFYUI_PATH names, if it exists."""
    path = os.environ.get("COMFYUI_PATH")
    return Path(path) if path and Path(path).is_dir() else None
