"""TODO runs"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .conditioning import Conditioning
from .files import digest, read_tensors, write_json, write_png, write_tensors
from .prompts import Prompt

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def image_seed(seed: int, text: str, place: int) -> int:
    """The seed of one image: a function of the whole job's seed, the prompt's text and the image's
    place, so that what else is sampled does not change it."""
    return int(digest([seed, text, place], 15), 16)


@dataclass(frozen=True)
class RunSettings:
    """What an image depends on beside its prompt and its place in the group.

    Args:
        model: the model's identity.
        steps: sampling steps.
        guidance: classifier-free guidance scale; 1 is none.
        size: width and height in pixels.
        seed: of the whole run; each image has its own seed made from it.
        pictures: of imported groups, a digest of their prompts and pictures; steps and guidance are
            then those of what is drawn while training.
    """

    model: dict[str, Any]
    steps: int
    guidance: float
    size: tuple[int, int]
    seed: int
    pictures: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "steps": self.steps,
            "guidance": self.guidance,
            "size": list(self.size),
            "seed": self.seed,
            **({} if self.pictures is None else {"pictures": self.pictures}),
        }


class Group:
    """The images of one prompt in a run."""

    def __init__(self, folder: Path, prompt: Prompt, seed: int) -> None:
        self.folder, self.prompt, self._seed = folder, prompt, seed

    def image_seed(self, place: int) -> int:
        """The seed of the image at ``place``."""
        return image_seed(self._seed, self.prompt.text, place)

    def count(self) -> int:
        """How many images are finished."""
        path = self.folder / "latents.safetensors"
        if not path.is_file():
            return 0
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            return file.get_slice("latents").get_shape()[0]

    def latents(self) -> Tensor:
        """``[G, c, h, w]`` float16."""
        return read_tensors(self.folder / "latents.safetensors")["latents"]

    def conditioning(self) -> Conditioning:
        from .conditioning import Conditioning

        return Conditioning(read_tensors(self.folder / "conditioning.safetensors"))

    def is_encoded(self) -> bool:
        return (self.folder / "conditioning.safetensors").is_file()

    def keep_conditioning(self, conditioning: Conditioning) -> None:
        """Write the encoded prompt, so that it is encoded once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_tensors(self.folder / "conditioning.safetensors", conditioning.tensors)

    def image_path(self, place: int) -> Path:
        return self.folder / f"{place:03d}.png"

    def image(self, place: int) -> Image.Image:
        from PIL import Image

        with Image.open(self.image_path(place)) as image:
            return image.convert("RGB")

    def add(
        self, latents: Tensor, images: Sequence[Image.Image], conditioning: Conditioning
    ) -> None:
        """Append finished images; they count once the last of these writes is done."""
        import torch

        self.folder.mkdir(parents=True, exist_ok=True)
        start = self.count()
        if start == 0:
            write_json(self.folder / "prompt.json", self.prompt.to_json())
            if not self.is_encoded():
                self.keep_conditioning(conditioning)
        for place, image in enumerate(images, start):
            write_png(self.image_path(place), image)
        latents = latents.detach().cpu().to(torch.float16)
        if start:
            latents = torch.cat([self.latents(), latents])
        seeds = torch.tensor([self.image_seed(i) for i in range(len(latents))])
        write_tensors(self.folder / "latents.safetensors", {"latents": latents, "seeds": seeds})


@dataclass
class Run:
    """A run's folder. ``open`` makes it or finds it again."""

    folder: Path
    settings: RunSettings
    name: str = ""
    _groups: dict[str, Group] = field(default_factory=dict, repr=False)

    @classmethod
    def open(cls, output_dir: Path, name: str, settings: RunSettings) -> Run:
        """The run of this name and these settings below ``output_dir``; other settings are another
        run, in a folder of its own.

        Raises:
            InputError: the name is not usable, the folder cannot be written, or the folder found
                there was made with other settings.
        """
        return cls.at(cls.place(output_dir, name, settings), name, settings)

    @staticmethod
    def place(output_dir: Path, name: str, settings: RunSettings) -> Path:
        """The folder of the run of this name and these settings, whether it is there or not.

        Raises:
            InputError: the name is not usable.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", name) or name.endswith((".", " ")):
            raise InputError(
                "run_name",
                f"{name!r} cannot be a folder's name here",
                "Use 1 to 40 letters, digits, spaces, dots, - and _, starting with a letter or digit.",
            )
        return output_dir / "gdro" / f"{name}-{digest(settings.as_json(), 8)}"

    @classmethod
    def at(cls, folder: Path, name: str, settings: RunSettings) -> Run:
        """The run in this very folder, made where it is missing; errors as in ``open``."""
        record = folder / "run.json"
        try:
            (folder / "prompts").mkdir(parents=True, exist_ok=True)
            if not record.is_file():
                from .. import __version__

                write_json(record, {"name": name, "version": __version__, **settings.as_json()})
            elif not os.access(folder, os.W_OK):
                raise PermissionError(13, "permission denied")
        except OSError as error:
            raise InputError(
                "output folder",
                f"{folder} cannot be written ({error.strerror})",
                "Make the folder writable, or choose another output folder.",
            ) from error
        cls._check(record, settings)
        return cls(folder, settings, name)

    @staticmethod
    def _check(record: Path, settings: RunSettings) -> None:
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                "run_name",
                f"{record} cannot be read ({error})",
                "Move that folder away, or choose another run name; nothing in it was changed.",
            ) from error
        for key, value in settings.as_json().items():
            if found.get(key) != value:
                raise InputError(
                    "run_name",
                    f"{record.parent} was made with another {key} ({found.get(key)!r}, now {value!r})",
                    "Move that folder away, or choose another run name; nothing in it was changed.",
                )

    def group(self, prompt: Prompt) -> Group:
        key = digest(prompt.text)
        if key not in self._groups:
            self._groups[key] = Group(self.folder / "prompts" / key, prompt, self.settings.seed)
        return self._groups[key]

    def score_file(self, reward_name: str, reward_settings: Mapping[str, Any]) -> Path:
        """The file of one reward with these settings."""
        return self.folder / "scores" / f"{reward_name}-{digest(dict(reward_settings), 8)}.jsonl"
