"""The layout of a run on disk: one folder per run, below ``<output>/gdro/``.

    <run>-<key>/run.json              model, sampler, versions; the key is a digest of the settings
    <run>-<key>/prompts/<id>/         one folder per prompt; the id is a digest of its text
        prompt.json                   the prompt
        conditioning.safetensors      the encoded prompt
        latents.safetensors           "latents" [G, c, h, w] float16; "seeds" [G]
        latents-008.safetensors       images 8 and up, until the group is complete and they are merged
        000.png, 001.png, ...         the decoded images
    <run>-<key>/scores/<reward>.jsonl one line per image
    <run>-<key>/train/<id>/           a training, see ``trainings``

An image counts once its latent is on disk.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .conditioning import Conditioning
from .disk import DiskError, make_folder
from .files import digest, read_tensors, write_json, write_png, write_tensors
from .prompts import Prompt

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

RECORD = "run.json"
"""The file that makes a folder a run."""

GROUPS, SCORES, TRAININGS = "prompts", "scores", "train"
"""Folders inside a run."""

_LATENTS = re.compile(r"latents(?:-(\d{3,9}))?\.safetensors")


def image_seed(seed: int, text: str, index: int) -> int:
    """Return the seed of one image.

    It depends on the run's seed, the prompt's text and the image's index in its group alone, so that
    sampling other prompts, or more images, does not change it.
    """
    return int(digest([seed, text, index], 15), 16)


@dataclass(frozen=True)
class SamplerChoice:
    """A sampler of ComfyUI, for models that have a choice.

    Args:
        name, scheduler: as KSampler calls them.
        negative_prompt: what classifier-free guidance moves away from.
    """

    name: str = "euler"
    scheduler: str = "simple"
    negative_prompt: str = ""

    def as_json(self) -> dict[str, str]:
        """Return the choice as it stands in ``run.json``."""
        return {
            "name": self.name,
            "scheduler": self.scheduler,
            "negative_prompt": self.negative_prompt,
        }


@dataclass(frozen=True)
class RunSettings:
    """Everything an image depends on, apart from its prompt and its index in the group.

    Args:
        model: the model's identity.
        steps: sampling steps.
        guidance: classifier-free guidance scale; 1 is none.
        size: width and height in pixels.
        seed: of the run; each image's own seed derives from it.
        source_digest: for imported groups, a digest of their prompts and images; steps and guidance
            are then used for whatever is sampled while training.
        sampler: of models that have a choice; None for the others.
    """

    model: dict[str, Any]
    steps: int
    guidance: float
    size: tuple[int, int]
    seed: int
    source_digest: str | None = None
    sampler: SamplerChoice | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the settings as they stand in ``run.json``."""
        return {
            "model": self.model,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": list(self.size),
            "seed": self.seed,
            **({} if self.source_digest is None else {"pictures": self.source_digest}),
            **({} if self.sampler is None else {"sampler": self.sampler.as_json()}),
        }


class Group:
    """The images of one prompt in a run.

    Args:
        folder: of the group; need not exist yet.
        prompt: shared by all images.
        seed: of the run.
    """

    def __init__(self, folder: Path, prompt: Prompt, seed: int) -> None:
        self.folder, self.prompt, self._seed = folder, prompt, seed

    def image_seed(self, index: int) -> int:
        """Return the seed of the image at ``index``."""
        return image_seed(self._seed, self.prompt.text, index)

    def image_path(self, index: int) -> Path:
        """Return the path of the PNG at ``index``."""
        return self.folder / f"{index:03d}.png"

    def image(self, index: int) -> Image.Image:
        """Read the image at ``index`` as RGB."""
        from PIL import Image

        with Image.open(self.image_path(index)) as image:
            return image.convert("RGB")

    def count(self) -> int:
        """Return how many images are finished."""
        return sum(length for _, length in self._chunks())

    def latents(self) -> Tensor:
        """Read the latents of all finished images, ``[G, c, h, w]`` float16."""
        return self._read()["latents"]

    def conditioning(self) -> Conditioning:
        """Read the encoded prompt."""
        return Conditioning.read(self._conditioning)

    def is_encoded(self) -> bool:
        """Return whether the encoded prompt is on disk."""
        return self._conditioning.is_file()

    def write_conditioning(self, conditioning: Conditioning) -> None:
        """Write the encoded prompt, so that it is encoded only once."""
        make_folder(self.folder)
        conditioning.write(self._conditioning)

    def add(
        self,
        start: int,
        latents: Tensor,
        images: Sequence[Image.Image],
        conditioning: Conditioning,
    ) -> None:
        """Append finished images. They count once the last of these writes is done.

        Args:
            start: index of the first of them, which is the number of those that are finished.
            latents: ``[n, c, h, w]``; stored as float16.
            images: the n decoded images.
            conditioning: the encoded prompt, written unless it is on disk already.

        Raises:
            InputError: the group has grown or shrunk since these images were begun; nothing is written.
        """
        import torch

        if self.count() != start:
            raise InputError(
                "output folder",
                f"{self.folder} has {self.count()} pictures now, and had {start} when the next were begun",
                "Something else writes into this run: let it finish, and run again. Nothing was "
                "overwritten.",
            )
        make_folder(self.folder)
        if start == 0:
            write_json(self.folder / "prompt.json", self.prompt.to_json())
            if not self.is_encoded():
                self.write_conditioning(conditioning)
        for index, image in enumerate(images, start):
            write_png(self.image_path(index), image)
        seeds = [self.image_seed(index) for index in range(start, start + len(latents))]
        path = self.folder / (
            f"latents-{start:03d}.safetensors" if start else "latents.safetensors"
        )
        latents = latents.detach().cpu().to(torch.float16)
        write_tensors(path, {"latents": latents, "seeds": torch.tensor(seeds)})

    def merge(self) -> None:
        """Merge latents that were appended one by one into one file, as a complete group has it."""
        appended = self._chunks()[1:]
        if appended:
            write_tensors(self.folder / "latents.safetensors", self._read())
            for path, _ in appended:
                path.unlink()

    @property
    def _conditioning(self) -> Path:
        return self.folder / "conditioning.safetensors"

    def _chunks(self) -> list[tuple[Path, int]]:
        """Return the files of latents in order, with the number of images in each.

        A file whose images are in an earlier one, as an interrupted merge leaves it, is passed over.
        """
        if not self.folder.is_dir():
            return []
        starts = {
            int(match[1] or 0): self.folder / name
            for name in os.listdir(self.folder)
            if (match := _LATENTS.fullmatch(name))
        }
        if not starts:
            return []
        from safetensors import safe_open

        chunks, count = [], 0
        while count in starts:
            with safe_open(starts[count], "pt") as file:
                length = file.get_slice("latents").get_shape()[0]
            chunks.append((starts[count], length))
            count += length
            if not length:
                break
        return chunks

    def _read(self) -> dict[str, Tensor]:
        import torch

        chunks = [read_tensors(path) for path, _ in self._chunks()]
        if len(chunks) == 1:
            return chunks[0]
        return {key: torch.cat([chunk[key] for chunk in chunks]) for key in ("latents", "seeds")}


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the record of a run; empty if it is missing or damaged."""
    try:
        stored = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return stored if isinstance(stored, dict) else {}


@dataclass
class Run:
    """A run's folder; ``open`` creates it or finds it again."""

    folder: Path
    settings: RunSettings
    name: str = ""
    _groups: dict[str, Group] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, output_dir: Path, name: str, settings: RunSettings) -> Run:
        """Open the run with this name and these settings below ``output_dir``.

        Other settings are another run, in another folder.

        Raises:
            InputError: the name is unusable, the folder cannot be written, or the existing folder
                was made with other settings.
        """
        return cls.at(cls.path(output_dir, name, settings), name, settings)

    @staticmethod
    def path(output_dir: Path, name: str, settings: RunSettings) -> Path:
        """Return the folder of the run with this name and these settings, whether it exists or not.

        Raises:
            InputError: the name is unusable.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", name) or name.endswith((".", " ")):
            raise InputError(
                "run_name",
                f"{name!r} cannot be used as a folder name",
                "Use 1 to 40 letters, digits, spaces, dots, - and _, starting with a letter or digit.",
            )
        return output_dir / "gdro" / f"{name}-{digest(settings.as_json(), 8)}"

    @classmethod
    def at(cls, folder: Path, name: str, settings: RunSettings) -> Run:
        """Open the run in this very folder, creating it if needed; errors as in ``open``."""
        record = folder / RECORD
        make_folder(folder / GROUPS)
        if not record.is_file():
            from .. import __version__

            write_json(record, {"name": name, "version": __version__, **settings.as_json()})
        elif not os.access(folder, os.W_OK):
            raise DiskError(folder, PermissionError(errno.EACCES, "permission denied"))
        cls._check(record, settings)
        return cls(folder, settings, name)

    @staticmethod
    def _check(record: Path, settings: RunSettings) -> None:
        """Refuse a folder whose record is unreadable or has other settings."""
        remedy = "Move that folder away, or choose another run name; nothing in it was changed."
        try:
            stored = json.loads(record.read_text(encoding="utf-8"))
            if not isinstance(stored, dict):
                raise ValueError("it is not a JSON object")
        except (OSError, ValueError, RecursionError) as error:
            raise InputError("run_name", f"{record} cannot be read ({error})", remedy) from error
        for key, value in settings.as_json().items():
            if stored.get(key) != value:
                raise InputError(
                    "run_name",
                    f"{record.parent} was made with another {key} ({stored.get(key)!r}, now {value!r})",
                    remedy,
                )

    def group(self, prompt: Prompt) -> Group:
        """Return the group of a prompt, on disk or not."""
        key = digest(prompt.text)
        if key not in self._groups:
            self._groups[key] = Group(self.folder / GROUPS / key, prompt, self.settings.seed)
        return self._groups[key]

    def score_path(self, file_name: str) -> Path:
        """Return the path of a score file."""
        return self.folder / SCORES / file_name

    def score_file(self, reward_name: str, reward_settings: Mapping[str, Any]) -> Path:
        """Return the path of the scores of one reward with these settings."""
        return self.score_path(f"{reward_name}-{digest(dict(reward_settings), 8)}.jsonl")
