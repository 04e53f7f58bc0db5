"""What the engine needs from where it runs.

``nodes/host.py`` implements it inside ComfyUI, ``headless/console_host.py`` for a terminal.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .progress import Progress

if TYPE_CHECKING:
    import torch

TOKENIZERS = {"clip": "comfy/sd1_tokenizer", "t5": "comfy/text_encoders/t5_tokenizer"}
"""Where ComfyUI keeps its tokenizers, relative to its own folder."""


def picture_folders(input_dir: Path, output_dir: Path) -> dict[str, Path]:
    """List folders of images by the name shown to users.

    Those in the input folder come first, then those in the output folder as "NAME [output]". Links,
    hidden folders and the runs themselves are left out.
    """
    found: dict[str, Path] = {}
    for root, mark in ((input_dir, ""), (output_dir, " [output]")):
        with os.scandir(root) if root.is_dir() else contextlib.nullcontext([]) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                hidden = entry.name.startswith(".") or (mark and entry.name == "gdro")
                if not hidden and entry.is_dir(follow_symlinks=False):
                    found.setdefault(entry.name + mark, Path(entry.path))
    return found


class Host(Progress, Protocol):
    """Everything the engine needs from its surroundings: progress, folders, files, device, models."""

    @property
    def output_dir(self) -> Path:
        """The folder under which runs (``gdro/<run>/``) and images are written."""
        ...

    @property
    def lora_dir(self) -> Path:
        """The folder from which the surroundings list LoRA files."""
        ...

    def model_files(self, kind: str) -> dict[str, Path]:
        """List the files or folders of a kind: the name shown to users -> its path.

        Args:
            kind: "diffusers", "loras", "transformers", "text_encoders", "vae" or "pictures".
        """
        ...

    def model_dir(self, kind: str) -> Path:
        """The folder into which models of a kind ("diffusers") are downloaded."""
        ...

    def tokenizer_dir(self, kind: str) -> Path:
        """The folder of the tokenizer of CLIP ("clip") or T5 ("t5"), in transformers' layout."""
        ...

    def judge_keys(self) -> str:
        """The user's API keys for judging servers, by host (see ``rewards.openai_wire.key_for``)."""
        ...

    def device(self) -> torch.device:
        """The device to compute on."""
        ...

    def free_memory(self) -> None:
        """Move other models off the device."""
        ...

    def patch_model(self, model: Any, lora_file: Path, strength: float) -> Any:
        """Apply a LoRA file to a model of the surroundings (ComfyUI's MODEL)."""
        ...

    def wire_model(self, model: Any, clip: Any, vae: Any) -> Any:
        """Present ComfyUI's MODEL, CLIP and VAE as a ``FlowModel``.

        Raises:
            InputError: they cannot be aligned, or there is no ComfyUI.
        """
        ...

    def native_model(self, model: Any) -> tuple[Any, Any, Any]:
        """Present a ``FlowModel`` as ComfyUI's MODEL, CLIP and VAE."""
        ...
