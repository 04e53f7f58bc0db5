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
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import damage
from .disk import DiskError, make_folder
from .files import digest, read_record, write_record
from .groups import Group
from .identity import versions_before
from .prompts import Prompt
from .quotes import excerpt

log = logging.getLogger(__name__)

RECORD = "run.json"
"""The file that makes a folder a run."""

GROUPS, SCORES, TRAININGS = "prompts", "scores", "train"
"""Folders inside a run."""


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

    def as_recorded(self, folder: Callable[[RunSettings], Path]) -> RunSettings:
        """Return these settings, or those of a run that a version before made and recorded less of its model.

        Args:
            folder: returns the folder that settings belong to.
        """
        if (folder(self) / RECORD).is_file():
            return self
        for less in versions_before(self.model):
            before = replace(self, model=less)
            if (folder(before) / RECORD).is_file():
                log.info(
                    "%s was made by a version that recorded less of the model: what it does not say is taken "
                    "to be the same, and text is as long as it was then", folder(before).name,
                )  # fmt: skip
                return before
        return self

    def key(self) -> str:
        """Return the digest of the settings, in which the name of the run's folder ends."""
        return digest(self.as_json(), 8)


def read_settings(folder: Path) -> dict[str, Any]:
    """Read the record of a run; empty if it is missing or damaged."""
    try:
        return read_record(folder / RECORD)
    except (OSError, ValueError):
        return {}


def check_name(name: str) -> None:
    """Raise ``InputError`` if a run cannot have this name."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}", name) or name.endswith((".", " ")):
        raise InputError(
            "run_name",
            f"{excerpt(name)} cannot be used as a folder name",
            "Use 1 to 40 letters, digits, spaces, dots, - and _, starting with a letter or digit.",
        )


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
        settings = settings.as_recorded(lambda s: cls.path(output_dir, name, s))
        return cls.at(cls.path(output_dir, name, settings), name, settings)

    @staticmethod
    def path(output_dir: Path, name: str, settings: RunSettings) -> Path:
        """Return the folder of the run with this name and these settings, whether it exists or not.

        Raises:
            InputError: the name is unusable.
        """
        check_name(name)
        return output_dir / "gdro" / f"{name}-{settings.key()}"

    @classmethod
    def at(cls, folder: Path, name: str, settings: RunSettings) -> Run:
        """Open the run in this very folder, creating it if needed; errors as in ``open``."""
        record = folder / RECORD
        make_folder(folder / GROUPS)
        if record.is_file():
            if not os.access(folder, os.W_OK):
                raise DiskError(folder, PermissionError(errno.EACCES, "permission denied"))
            if cls._check(record, settings):
                return cls(folder, settings, name)
            damage.set_aside(record)
        from .. import __version__

        write_record(record, {"name": name, "version": __version__, **settings.as_json()})
        return cls(folder, settings, name)

    @staticmethod
    def _check(record: Path, settings: RunSettings) -> bool:
        """Return whether a folder has these settings; False if its record is damaged, and its name has.

        Raises:
            InputError: its record is unreadable, or has other settings.
        """
        remedy = "Move that folder away, or choose another run name; nothing in it was changed."
        try:
            stored = read_record(record)
        except OSError as error:
            raise InputError(
                "run_name", f"{record} cannot be read ({error.strerror})", remedy
            ) from error
        except ValueError as error:
            if record.parent.name.endswith(f"-{settings.key()}"):
                return False
            raise InputError("run_name", f"{record} cannot be read ({error})", remedy) from error
        for key, value in settings.as_json().items():
            if stored.get(key) != value:
                raise InputError(
                    "run_name",
                    f"{record.parent} was made with another {key} ({str(stored.get(key))[:60]}, "
                    f"now {str(value)[:60]})",
                    remedy,
                )
        return True

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
