"""The images of one prompt in a run, on disk; ``runs`` describes the layout."""

from __future__ import annotations

import contextlib
import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import checksums, damage
from .conditioning import Conditioning
from .damage import REMADE, DamagedFile
from .disk import make_folder
from .files import (
    digest,
    png_bytes,
    read_record,
    read_safetensors,
    write_atomic,
    write_record,
    write_tensors,
)
from .prompts import Prompt
from .safetensors_files import UnreadableFile, read_header

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

_LATENTS = re.compile(r"latents(?:-(\d{3,9}))?\.safetensors")

_CONDITIONING, _PROMPT = "conditioning.safetensors", "prompt.json"

_PICTURES = "pictures"
"""In the header of latents: size in bytes and CRC-32 of each image as it was written."""

Picture = tuple[int, str]
"""Size in bytes and CRC-32 of the file of an image."""


def image_seed(seed: int, text: str, index: int) -> int:
    """Return the seed of one image.

    It depends on the run's seed, the prompt's text and the image's index in its group alone, so that
    sampling other prompts, or more images, does not change it.
    """
    return int(digest([seed, text, index], 15), 16)


@dataclass(frozen=True)
class Chunk:
    """A file of latents.

    Args:
        path: the file.
        start, length: index of its first image, and the number of its images.
        pictures: of each image; None if it was written by an older version.
    """

    path: Path
    start: int
    length: int
    pictures: tuple[Picture | None, ...]


@dataclass(frozen=True)
class GroupState:
    """What is on disk of a group.

    Args:
        count: finished images.
        lost: those of them whose file is gone or has not the size that was written.
        strays: files of latents that do not count: damaged ones, and those that follow one.
        encoded: whether the encoded prompt is there, at its full length.
        has_prompt: whether the prompt is there and not empty.
    """

    count: int
    lost: tuple[int, ...]
    strays: tuple[Path, ...]
    encoded: bool
    has_prompt: bool


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
        """Read the image at ``index`` as RGB.

        A damaged one is set aside, whoever reads it: nothing else tells the next run to make it anew.

        Raises:
            DamagedFile: it is gone or damaged.
        """
        from PIL import Image

        path = self.image_path(index)
        try:
            with Image.open(path, formats=["PNG"]) as image:
                return image.convert("RGB")
        except FileNotFoundError as error:
            raise DamagedFile(path, "it is gone", f"{REMADE} from its latents.") from error
        except Exception as error:  # Pillow raises a dozen kinds of them for damaged files
            with contextlib.suppress(OSError):  # on a disk that is read-only, it stays
                damage.set_aside(path)
            raise DamagedFile(path, "it is no whole picture", f"{REMADE}.") from error

    def count(self) -> int:
        """Return how many images are finished."""
        return sum(chunk.length for chunk in self.chunks())

    def latents(self) -> Tensor:
        """Read the latents of all finished images, ``[G, c, h, w]`` float16.

        Raises:
            DamagedFile: a file is damaged.
        """
        return self._read(self.chunks())["latents"]

    def conditioning(self) -> Conditioning:
        """Read the encoded prompt.

        Raises:
            DamagedFile: it is damaged.
        """
        return Conditioning.read(self.conditioning_path)

    def is_encoded(self) -> bool:
        """Return whether the encoded prompt is on disk, and of its full length."""
        try:
            return bool(read_header(self.conditioning_path).shapes)
        except UnreadableFile:
            return False

    def write_conditioning(self, conditioning: Conditioning) -> None:
        """Write the encoded prompt, so that it is encoded only once."""
        make_folder(self.folder)
        conditioning.write(self.conditioning_path)

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

        count = self.count()
        if count != start:
            raise InputError(
                "output folder",
                f"{self.folder} has {count} pictures now, and had {start} when the next were begun",
                "Something else writes into this run: let it finish, and run again. Nothing was "
                "overwritten.",
            )
        make_folder(self.folder)
        if start == 0:
            self.write_prompt()
            if not self.is_encoded():
                self.write_conditioning(conditioning)
        pictures = [self.write_image(index, image) for index, image in enumerate(images, start)]
        seeds = [self.image_seed(index) for index in range(start, start + len(latents))]
        path = self.folder / (
            f"latents-{start:03d}.safetensors" if start else "latents.safetensors"
        )
        latents = latents.detach().cpu().to(torch.float16)
        write_tensors(
            path, {"latents": latents, "seeds": torch.tensor(seeds)}, _pictures_text(pictures)
        )

    def write_prompt(self) -> None:
        """Write the prompt."""
        write_record(self.prompt_path, self.prompt.to_json())

    def write_image(self, index: int, image: Image.Image) -> Picture:
        """Write an image as PNG; return what its latents keep of it."""
        data = png_bytes(image)
        write_atomic(self.image_path(index), lambda file: file.write(data))
        return len(data), checksums.crc(data)

    def merge(self) -> None:
        """Merge latents that were appended one by one into one file, as a complete group has it."""
        chunks = self.chunks()
        if len(chunks) > 1:
            self.rewrite([picture for chunk in chunks for picture in chunk.pictures])

    def rewrite(self, pictures: Sequence[Picture | None]) -> None:
        """Write all latents into one file, with these entries of their images."""
        chunks = self.chunks()
        tensors = self._read(chunks)
        write_tensors(self.folder / "latents.safetensors", tensors, _pictures_text(pictures))
        for chunk in chunks[1:]:
            chunk.path.unlink()

    @property
    def conditioning_path(self) -> Path:
        """The file of the encoded prompt."""
        return self.folder / _CONDITIONING

    @property
    def prompt_path(self) -> Path:
        """The file of the prompt."""
        return self.folder / _PROMPT

    def has_prompt(self) -> bool:
        """Return whether the prompt is on disk, and undamaged."""
        try:
            return isinstance(read_record(self.prompt_path).get("text"), str)
        except (OSError, ValueError):
            return False

    def state(self) -> GroupState:
        """Look at what is on disk: at names, sizes and headers, as a run may have 100,000 files."""
        names = self._sizes()
        starts = self._starts(names)
        chunks = self._chunks(starts)
        end = sum(chunk.length for chunk in chunks)
        lost = []
        for chunk in chunks:
            for index, picture in enumerate(chunk.pictures, chunk.start):
                size = names.get(f"{index:03d}.png", 0)
                if not size or (picture is not None and size != picture[0]):
                    lost.append(index)
        strays = [path for start, path in sorted(starts.items()) if start >= end]
        encoded = bool(names.get(_CONDITIONING)) and self.is_encoded()
        has_prompt = bool(names.get(_PROMPT))
        return GroupState(end, tuple(lost), tuple(strays), encoded, has_prompt)

    def set_damaged_aside(self) -> list[str]:
        """Read prompt, conditioning and latents in full, set aside what is damaged, and return its names.

        What was set aside counts as missing. Call it while holding the lock of the run.
        """
        broken: list[Path] = []
        reads: list[Callable[[], object]] = [partial(self._read, [c]) for c in self.chunks()]
        if self.conditioning_path.is_file():
            reads.append(self.conditioning)
        for read in reads:
            try:
                read()
            except DamagedFile as error:
                broken.append(error.path)
        if self.prompt_path.is_file() and not self.has_prompt():
            broken.append(self.prompt_path)
        for path in broken:
            damage.set_aside(path)
        strays = self.state().strays
        for path in strays:
            damage.set_aside(path)
        return [path.name for path in (*broken, *strays)]

    def chunks(self) -> list[Chunk]:
        """Return the files of latents in order.

        A file whose images are in an earlier one, as an interrupted merge leaves it, is passed over. The
        first that is damaged ends the list.
        """
        try:
            return self._chunks(self._starts(os.listdir(self.folder)))
        except FileNotFoundError:
            return []

    def _chunks(self, starts: Mapping[int, Path]) -> list[Chunk]:
        chunks: list[Chunk] = []
        count = 0
        while count in starts:
            try:
                header = read_header(starts[count])
                length = header.shapes["latents"][0]
            except (UnreadableFile, KeyError, IndexError):
                break
            if not length:
                break
            pictures = _pictures(header.texts.get(_PICTURES), length)
            chunks.append(Chunk(starts[count], count, length, pictures))
            count += length
        return chunks

    def _sizes(self) -> dict[str, int]:
        """Return the sizes of the files in the folder, by name."""
        try:
            with os.scandir(self.folder) as entries:
                return {entry.name: entry.stat().st_size for entry in entries}
        except FileNotFoundError:
            return {}

    def _starts(self, names: Iterable[str]) -> dict[int, Path]:
        """Return the files of latents by the index of their first image."""
        matches = ((n, _LATENTS.fullmatch(n)) for n in names if n.startswith("latents"))
        return {int(match[1] or 0): self.folder / name for name, match in matches if match}

    def _read(self, chunks: Sequence[Chunk]) -> dict[str, Tensor]:
        import torch

        remedy = f"{REMADE}, with the same seeds."
        if not chunks:
            raise DamagedFile(self.folder / "latents.safetensors", "it is gone", remedy)
        parts = [read_safetensors(chunk.path, remedy)[0] for chunk in chunks]
        for part, chunk in zip(parts, chunks, strict=True):
            if len(part.get("seeds", ())) != chunk.length or len(part["latents"]) != chunk.length:
                raise DamagedFile(chunk.path, "its latents and seeds do not fit", remedy)
        if len(parts) == 1:
            return parts[0]
        return {key: torch.cat([part[key] for part in parts]) for key in ("latents", "seeds")}


def _pictures_text(pictures: Sequence[Picture | None]) -> dict[str, str]:
    return {_PICTURES: json.dumps(pictures, separators=(",", ":"))}


def _pictures(text: str | None, length: int) -> tuple[Picture | None, ...]:
    """Return what latents keep of their images; None for each where that is unknown."""
    try:
        rows = json.loads(text) if text else None
        known = [None if row is None else (int(row[0]), str(row[1])) for row in rows or ()]
    except (ValueError, TypeError, LookupError, RecursionError):
        known = []
    return tuple(known) if len(known) == length else (None,) * length


def picture_fits(data: bytes, picture: Picture | None) -> bool:
    """Return whether the file of an image is whole, and the one that was written if that is known."""
    if picture is not None:
        return (len(data), f"{zlib.crc32(data):08x}") == picture
    return checksums.png_fits(data)
