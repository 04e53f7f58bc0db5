"""The host of a console."""

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
    """A terminal: tqdm progress bars, and all folders below one output folder.

    Args:
        output_dir: where runs, pictures and LoRA files go; made when first needed.
        quiet: no progress bars.
        input_dir: whose folders of pictures may be imported; without one, the input folder of the
            ComfyUI that COMFYUI_PATH names, or else "input".
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

        bar, stage = self._bar, stage.partition(", about ")[0]  # the bar says it itself
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
        """Ask whatever runs to stop at its next step."""
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
        found: dict[str, Path] = {}
        for folder in folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                found.setdefault(path.name, path)
        return found

    def model_dir(self, kind: str) -> Path:
        return self._output / kind

    def tokenizer_dir(self, kind: str) -> Path:
        found = _comfyui()
        if found is None:
            raise InputError(
                "source",
                "single files hold no tokenizers, and no ComfyUI to take them from is known",
                "Set the environment variable COMFYUI_PATH to a ComfyUI folder, or use a diffusers "
                "folder.",
            )
        return found / TOKENIZERS[kind]

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
        """A console shares its device with no model of its own."""

    def patch_model(self, model: Any, lora_file: Path, strength: float) -> Any:
        raise InputError(
            "model",
            "a ComfyUI MODEL exists only inside ComfyUI",
            "Open the workflow there, or use GDRO Generate here.",
        )

    def native_model(self, model: FlowModel) -> tuple[Any, Any, Any]:
        return self.patch_model(model, Path(), 0.0)


_COMFYUI_FOLDERS = {
    "transformers": ("diffusion_models", "unet", "checkpoints"),
    "text_encoders": ("text_encoders", "clip"),
    "vae": ("vae",),
    "diffusers": ("diffusers",),
}


def _comfyui() -> Path | None:
    """The ComfyUI folder that COMFYUI_PATH names, if any."""
    given = os.environ.get("COMFYUI_PATH")
    return Path(given) if given and Path(given).is_dir() else None
