"""Groups of pictures that were made elsewhere, as they are found: in a folder, or in ComfyUI's graph.

Nothing is refused here but an empty source: what is wrong is gathered, to be told all at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from .image_files import SUFFIXES, Picture, from_file, from_tensor
from .png_prompt import positive_prompt

if TYPE_CHECKING:
    from torch import Tensor

PROMPTS_FROM = ("caption files", "PNG metadata", "folder names", "typed")
_CAPTION = "prompt.txt"
_LONGEST_CAPTION = 64 * 1024


@dataclass(frozen=True)
class PictureGroup:
    """The pictures of one prompt, in the order of their names, or the best first where these say so.

    ``ranks`` has the place of each in that order, 0 for the best; None where the names give none.
    """

    label: str
    prompt: str
    pictures: tuple[Picture, ...]
    ranks: tuple[int, ...] | None = None


@dataclass
class Findings:
    """What a source holds, what is wrong with it, and what is worth knowing. A picture that is in no
    group is so for a reason that is among the problems."""

    pictures: list[Picture] = field(default_factory=list)
    groups: list[PictureGroup] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def from_images(images: Sequence[Tensor], prompts: Sequence[str]) -> Findings:
    """Batches ``[n, h, w, channels]`` of the graph, with a prompt each or one for all. Batches of the
    same prompt are one group.

    Raises:
        InputError: there are no images, or more or fewer prompts than batches.
    """
    words = [_clean(str(prompt)) for prompt in prompts]
    if not sum(map(len, images)):
        raise InputError("images", "there are none", "Look at what the node before it gives.")
    if len(words) not in (1, len(images)):
        raise InputError(
            "prompt",
            f"{len(words)} prompts came for {len(images)} batches of images",
            "Give one for each batch, in the same order, or one for all.",
        )
    found = Findings()
    groups: dict[str, list[Picture]] = {}
    for number, batch in enumerate(images, 1):
        text = words[number - 1] if len(words) > 1 else words[0]
        if not text:
            found.problems.append(f"batch {number}: its prompt is empty")
        for place, image in enumerate(batch, 1):
            picture = from_tensor(image, f"image {place} of batch {number}")
            groups.setdefault(text, []).append(picture)
            found.pictures.append(picture)
    found.groups = [PictureGroup(repr(text), text, tuple(g)) for text, g in groups.items()]
    return found


def from_folder(
    folder: Path,
    prompts_from: str,
    typed: str = "",
    on_picture: Callable[[int, int], None] = lambda count, total: None,
) -> Findings:
    """One sub-folder for each prompt; in a folder without any, the pictures of the same prompt are a
    group.

    Args:
        prompts_from: one of ``PROMPTS_FROM``.
        typed: the prompts for "typed", one a line, for the sub-folders in the order of their names.
        on_picture: is told how many pictures were read, and of how many; may raise to stop.

    Raises:
        InputError: there are no pictures in it.
    """
    found = Findings()
    places = {name: _files(path) for name, path in _children(folder, files=False)}
    places = {name: files for name, files in places.items() if files}
    beside = _files(folder)
    if places and beside:
        found.notes.append(f"{len(beside)} pictures beside the sub-folders are left out")
    if not places and not beside:
        raise InputError(
            "folder",
            f"there are no pictures in {folder.name!r} or its sub-folders",
            f"Put some in: {', '.join(sorted(SUFFIXES))}.",
        )
    flat = not places
    places = places or {"": beside}
    lines = [_clean(line) for line in typed.splitlines() if line.strip()]
    if prompts_from == "typed" and len(lines) != len(places):
        found.problems.append(
            f"{len(lines)} prompts are typed for {len(places)} "
            + ("folder" if flat else f"sub-folders ({some(list(places))})")
        )
    total = sum(map(len, places.values()))
    for number, (name, files) in enumerate(places.items()):
        pictures = []
        for path in files:
            pictures.append(from_file(path, f"{name}/{path.name}" if name else path.name))
            on_picture(len(found.pictures) + len(pictures), total)
        found.pictures += pictures
        where = folder / name
        texts: list[str | None]
        if prompts_from == "typed":
            texts = [lines[number] if number < len(lines) else None] * len(files)
        elif prompts_from == "folder names":
            texts = [_clean(where.name.replace("_", " "))] * len(files)
        elif prompts_from == "PNG metadata":
            texts = [_from_metadata(picture, found.problems) for picture in pictures]
        else:
            texts = _captions(where, files, pictures, found.problems)
        _gather(found, name, files, pictures, texts)
    _refuse_shared_prompts(found)
    return found


def some(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _clean(text: str) -> str:
    return " ".join(text.split())


def _children(folder: Path, files: bool) -> list[tuple[str, Path]]:
    """Files or folders in a folder, in the order of their names, 2 before 10; no links, no hidden ones."""
    with os.scandir(folder) as entries:
        found = [
            (entry.name, Path(entry.path))
            for entry in entries
            if not entry.name.startswith(".")
            and (entry.is_file if files else entry.is_dir)(follow_symlinks=False)
        ]
    return sorted(found, key=lambda one: (_natural(one[0]), one[0]))


def _natural(name: str) -> list[str | int]:
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def _files(folder: Path) -> list[Path]:
    return [path for _, path in _children(folder, files=True) if path.suffix.lower() in SUFFIXES]


def _from_metadata(picture: Picture, problems: list[str]) -> str | None:
    try:
        if not picture.size[0]:
            picture.load()
        if picture.metadata is None:
            raise ValueError("it has no metadata of ComfyUI")
        return positive_prompt(picture.metadata)
    except ValueError as error:
        problems.append(f"{picture.name}: {error}")
        return None


def _captions(
    folder: Path, files: Sequence[Path], pictures: Sequence[Picture], problems: list[str]
) -> list[str | None]:
    """The text beside each picture, or else that of the folder."""
    shared = _caption(folder / _CAPTION, problems)
    own = [_caption(path.with_suffix(".txt"), problems) for path in files]
    for picture, text in zip(pictures, own, strict=True):
        if text is None and shared is None:
            problems.append(
                f"{picture.name}: there is no {_CAPTION} in its folder, and no .txt of its name"
            )
        if text is not None and shared is not None and text != shared:
            problems.append(f"{picture.name}: its .txt says {text!r}, {_CAPTION} {shared!r}")
    return [text if text is not None else shared for text in own]


def _caption(path: Path, problems: list[str]) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    try:
        if path.stat().st_size > _LONGEST_CAPTION:
            raise ValueError(f"has more than {_LONGEST_CAPTION // 1024} KB")
        text = _clean(path.read_text(encoding="utf-8-sig"))
        if not text:
            raise ValueError("is empty")
        return text
    except UnicodeDecodeError:
        problems.append(f"{path.parent.name}/{path.name} is not text in UTF-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problems.append(f"{path.parent.name}/{path.name} {reason}")
    return None


def _gather(
    found: Findings,
    name: str,
    files: Sequence[Path],
    pictures: Sequence[Picture],
    texts: Sequence[str | None],
) -> None:
    """Add the groups of one folder: a sub-folder has one, the folder itself one for each prompt."""
    by_text: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        if text is not None:
            by_text.setdefault(text, []).append(place)
    if name and len(by_text) > 1:
        shown = ", ".join(repr(text) for text in list(by_text)[:3])
        found.problems.append(f"{name}: its pictures have {len(by_text)} prompts: {shown}")
        return
    for text, places in by_text.items():
        label = name or repr(text)
        order = ranks([files[place].stem for place in places])
        if order is None:
            partly = [files[p].name for p in places if _MARK.search(files[p].stem)]
            if partly:
                found.notes.append(
                    f"{label}: only some names give an order ({partly[0]}), so it has none"
                )
        else:
            pairs = sorted(zip(order, places, strict=True))
            order, places = [rank for rank, _ in pairs], [place for _, place in pairs]
        group = tuple(pictures[place] for place in places)
        found.groups.append(PictureGroup(label, text, group, tuple(order) if order else None))


def _refuse_shared_prompts(found: Findings) -> None:
    seen: dict[str, str] = {}
    for group in found.groups:
        first = seen.setdefault(group.prompt, group.label)
        if first != group.label:
            found.problems.append(
                f"{first} and {group.label} have the same prompt, {group.prompt!r}: put their "
                "pictures into one folder"
            )


_MARK = re.compile(r"_[wl]$|^[0-9]{1,9}$", re.IGNORECASE)


def ranks(stems: Sequence[str]) -> list[int] | None:
    """The order that names of files (without their endings) give, 0 for the best: ``_w`` before
    ``_l``, or numbers, the lowest first. None where they give none.

    >>> ranks(["cat_l", "cat_w"]), ranks(["10", "1", "02"]), ranks(["a", "b"])
    ([1, 0], [2, 0, 1], None)
    """
    marks = [_MARK.search(stem) for stem in stems]
    shown = [mark[0].lower() for mark in marks if mark]
    letters = sum(mark.startswith("_") for mark in shown)
    if len(shown) < len(stems) or letters not in (0, len(shown)):
        return None
    values = [0 if mark == "_w" else 1 if mark == "_l" else int(mark) for mark in shown]
    levels = sorted(set(values))
    return [levels.index(value) for value in values] if len(levels) > 1 else None
