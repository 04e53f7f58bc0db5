"""Collect groups of images made elsewhere, from a folder or from ComfyUI's graph.

Only an empty source is refused here. Everything else that is wrong is collected, so that one message can
list all of it.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.quotes import excerpt
from ..errors import InputError
from .image_files import SUFFIXES, SourceImage, from_file, from_tensor
from .png_prompt import positive_prompt

if TYPE_CHECKING:
    from torch import Tensor

PROMPTS_FROM = ("caption files", "PNG metadata", "folder names", "typed")
_CAPTION = "prompt.txt"
_MAX_CAPTION_BYTES = 64 * 1024
_RANK = re.compile(r"_[wl]$|^(?!0[0-9]{3})[0-9]{1,9}$", re.IGNORECASE)
"""Names that give an order. Numbers filled with zeros to four digits or more are counters of programs."""
_COUNTERS = re.compile(r"^0[0-9]{3,8}$")
_ASKED = "ranking.txt"
"""A file in the folder that asks for counters to be taken for an order, too."""
_CAPTIONS = (".txt", ".caption")
_SYSTEM = frozenset(
    {"@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found", "system volume information"}
)
_UNSEEN = ("thumbs.db", "desktop.ini")
"""Folders and files of operating systems, in lower case."""


@dataclass(frozen=True)
class ImageGroup:
    """The images of one prompt.

    Args:
        label: for messages.
        prompt: what the images were made from.
        images: the best first if their names give an order, otherwise in the order of the names.
        ranks: rank of each image, 0 for the best, equal for ties; None without an order.
    """

    label: str
    prompt: str
    images: tuple[SourceImage, ...]
    ranks: tuple[int, ...] | None = None


@dataclass
class ImageSource:
    """What a source holds, what is wrong with it, and what the user may want to know.

    If an image is in no group, ``problems`` says why.
    """

    images: list[SourceImage] = field(default_factory=list)
    groups: list[ImageGroup] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def from_images(batches: Sequence[Tensor], prompts: Sequence[str]) -> ImageSource:
    """Collect images of the graph; batches with the same prompt are one group.

    Args:
        batches: ``[n, h, w, channels]`` in [0, 1].
        prompts: one for each batch, or one for all.

    Raises:
        InputError: there are no images, or the number of prompts does not fit.
    """
    texts = [_clean(str(prompt)) for prompt in prompts]
    if not sum(map(len, batches)):
        raise InputError("images", "there are none", "Check the output of the connected node.")
    if len(texts) not in (1, len(batches)):
        raise InputError(
            "prompt",
            f"{len(texts)} prompts came for {len(batches)} batches of images",
            "Give one for each batch, in the same order, or one for all.",
        )
    source = ImageSource()
    groups: dict[str, list[SourceImage]] = {}
    for number, batch in enumerate(batches, 1):
        text = texts[number - 1] if len(texts) > 1 else texts[0]
        if not text:
            source.problems.append(f"batch {number}: its prompt is empty")
        for position, tensor in enumerate(batch, 1):
            image = from_tensor(tensor, f"image {position} of batch {number}")
            groups.setdefault(text, []).append(image)
            source.images.append(image)
    source.groups = [ImageGroup(repr(text), text, tuple(g)) for text, g in groups.items()]
    return source


def from_folder(
    folder: Path,
    prompts_from: str,
    typed: str = "",
    on_image: Callable[[int, int], None] = lambda count, total: None,
) -> ImageSource:
    """Collect the images of a folder.

    Each sub-folder holds the images of one prompt. In a folder without sub-folders, images with the same
    prompt are a group.

    Args:
        prompts_from: one of ``PROMPTS_FROM``.
        typed: for "typed", one prompt per line, for the sub-folders in the order of their names.
        on_image: called with the number of images read so far and their total; may raise to stop.

    Raises:
        InputError: there are no images in it.
    """
    source = ImageSource()
    folders = _entries(folder, files=False)
    system = [name for name, _ in folders if name.lower() in _SYSTEM]
    if system:
        source.notes.append(f"{len(system)} folders of the system are left out: {shorten(system)}")
    folders = [(name, path) for name, path in folders if name.lower() not in _SYSTEM]
    files_by_name = {name: _image_paths(path) for name, path in folders}
    source.problems += _deeper(folders)
    source.notes += _left_out([folder, *(path for _, path in folders)])
    empty = [name for name, paths in files_by_name.items() if not paths]
    files_by_name = {name: paths for name, paths in files_by_name.items() if paths}
    if empty and files_by_name:
        source.notes.append(
            f"{len(empty)} sub-folders without pictures are left out: {shorten(empty)}"
        )
    loose = _image_paths(folder)
    asked = any(name.lower() == _ASKED for name, _ in _entries(folder, files=True))
    if not files_by_name and not loose:
        raise InputError(
            "folder",
            f"there are no pictures in {folder.name!r} or its sub-folders",
            f"Add pictures in one of these formats: {', '.join(sorted(SUFFIXES))}.",
        )
    if files_by_name and loose:
        source.notes.append(f"{len(loose)} pictures beside the sub-folders are left out")
    lines = [_clean(line) for line in typed.splitlines() if line.strip()]
    count = len(files_by_name) or 1
    if prompts_from == "typed" and len(lines) != count:
        names = f"sub-folders ({shorten(list(files_by_name))})" if files_by_name else "folder"
        source.problems.append(f"{len(lines)} prompts are typed for {count} {names}")
    files_by_name = files_by_name or {"": loose}
    total = sum(map(len, files_by_name.values()))
    for number, (name, paths) in enumerate(files_by_name.items()):
        images = []
        for path in paths:
            images.append(from_file(path, f"{name}/{path.name}" if name else path.name))
            on_image(len(source.images) + len(images), total)
        source.images += images
        texts: list[str | None]
        if prompts_from == "typed":
            texts = [lines[number] if number < len(lines) else None] * len(paths)
        elif prompts_from == "folder names":
            texts = [_clean((name or folder.name).replace("_", " "))] * len(paths)
        elif prompts_from == "PNG metadata":
            texts = [_metadata_prompt(image, source.problems) for image in images]
        else:
            texts = _captions(folder / name, paths, images, source.problems)
        _add_groups(source, name, paths, images, texts, asked)
    source.problems += _shared_prompts(source.groups)
    return source


def shorten(names: Sequence[str], limit: int = 5) -> str:
    """Join the first names, and say how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _clean(text: str) -> str:
    return " ".join(text.split())


def _entries(folder: Path, files: bool) -> list[tuple[str, Path]]:
    """Return a folder's files or sub-folders in natural order, without links and hidden ones."""
    with os.scandir(folder) as entries:
        paths = [
            (entry.name, Path(entry.path))
            for entry in entries
            if not entry.name.startswith(".")
            and (entry.is_file if files else entry.is_dir)(follow_symlinks=False)
        ]
    return sorted(paths, key=lambda item: (_natural_key(item[0]), item[0]))


def _natural_key(name: str) -> list[str | int]:
    """Return a key that sorts 2 before 10."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def _image_paths(folder: Path) -> list[Path]:
    return [path for _, path in _entries(folder, files=True) if path.suffix.lower() in SUFFIXES]


def _deeper(folders: Sequence[tuple[str, Path]]) -> Iterator[str]:
    """Yield a problem for each sub-folder whose pictures lie in a folder of its own."""
    for name, path in folders:
        for inner, deeper in _entries(path, files=False):
            count = len(_image_paths(deeper)) if inner.lower() not in _SYSTEM else 0
            if count:
                yield (
                    f"{name}: {count} pictures lie in its folder {inner}, which is not read; move them up "
                    f"into {name}, or choose {name} itself"
                )


def _left_out(folders: Sequence[Path]) -> Iterator[str]:
    """Yield a note on the files that are neither pictures of a known format nor captions."""
    kinds: Counter[str] = Counter()
    for folder in folders:
        for name, path in _entries(folder, files=True):
            suffix = path.suffix.lower()
            if suffix not in SUFFIXES and suffix not in _CAPTIONS and name.lower() not in _UNSEEN:
                kinds[suffix or "no ending"] += 1
    if kinds:
        listed = shorten([f"{suffix} ({count})" for suffix, count in kinds.most_common()])
        yield f"{sum(kinds.values())} files of other kinds are left out: {listed}"


def _metadata_prompt(image: SourceImage, problems: list[str]) -> str | None:
    try:
        if not image.size[0]:
            image.load()  # raises the reason why it cannot be read
        if image.metadata is None:
            found = f", only {image.other_metadata}" if image.other_metadata else ""
            raise ValueError(f"it has no ComfyUI metadata{found}")
        return positive_prompt(image.metadata)
    except ValueError as error:
        problems.append(f"{image.name}: {error}")
        return None


def _captions(
    folder: Path, paths: Sequence[Path], images: Sequence[SourceImage], problems: list[str]
) -> list[str | None]:
    """Return the caption beside each image, or else that of the folder."""
    by_name = {name.lower(): path for name, path in _entries(folder, files=True)}

    def beside(*names: str) -> str | None:
        path = next((by_name[name.lower()] for name in names if name.lower() in by_name), None)
        return None if path is None else _caption(path, problems)

    shared = beside(_CAPTION)
    captions = [beside(*(path.stem + suffix for suffix in _CAPTIONS)) for path in paths]
    for image, text in zip(images, captions, strict=True):
        if text is None and shared is None:
            problems.append(
                f"{image.name}: there is no {_CAPTION} in its folder, and no .txt with its name"
            )
        if text is not None and shared is not None and text != shared:
            problems.append(
                f"{image.name}: its .txt says {excerpt(text)}, but {_CAPTION} says {excerpt(shared)}"
            )
    return [text if text is not None else shared for text in captions]


def _caption(path: Path, problems: list[str]) -> str | None:
    if path.is_symlink() or not path.is_file():
        return None
    try:
        if path.stat().st_size > _MAX_CAPTION_BYTES:
            raise ValueError(f"is larger than {_MAX_CAPTION_BYTES // 1024} KB")
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


def _add_groups(
    source: ImageSource,
    name: str,
    paths: Sequence[Path],
    images: Sequence[SourceImage],
    texts: Sequence[str | None],
    asked: bool,
) -> None:
    """Add the groups of a folder: a sub-folder is one group, the folder itself one per prompt."""
    by_text: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        if text is not None:
            by_text.setdefault(text, []).append(index)
    if name and len(by_text) > 1:
        examples = ", ".join(repr(text) for text in list(by_text)[:3])
        source.problems.append(f"{name}: its pictures have {len(by_text)} prompts: {examples}")
        return
    for text, indices in by_text.items():
        label = name or repr(text)
        stems = [paths[index].stem for index in indices]
        counters = all(_COUNTERS.match(stem) for stem in stems)
        order = ranks([str(int(stem)) for stem in stems] if counters and asked else stems)
        if order is None and counters:
            source.notes.append(
                f"{label}: its names count the pictures and give no order; an empty file {_ASKED} in the "
                "folder makes them one"
            )
        elif order is None:
            ranked = [paths[index].name for index in indices if _RANK.search(paths[index].stem)]
            if ranked:
                source.notes.append(
                    f"{label}: only some names give an order ({ranked[0]}), so the group has none"
                )
        else:
            pairs = sorted(zip(order, indices, strict=True))
            order, indices = [rank for rank, _ in pairs], [index for _, index in pairs]
        group = tuple(images[index] for index in indices)
        source.groups.append(ImageGroup(label, text, group, tuple(order) if order else None))


def _shared_prompts(groups: Sequence[ImageGroup]) -> Iterator[str]:
    labels: dict[str, str] = {}
    for group in groups:
        first = labels.setdefault(group.prompt, group.label)
        if first != group.label:
            yield (
                f"{first} and {group.label} have the same prompt, {excerpt(group.prompt)}: put their "
                "pictures into one folder"
            )


def ranks(stems: Sequence[str]) -> list[int] | None:
    """Return the rank that each file name gives, 0 for the best, or None if they give no order.

    Names without their suffix give an order if all end in ``_w`` (better) or ``_l`` (worse), or all are
    numbers, the lowest being the best; and if not all are equal. Numbers with zeros before them, to four
    digits or more, are counters of programs and give none.

    >>> ranks(["cat_l", "cat_w"]), ranks(["10", "1", "02"]), ranks(["0001", "0002"])
    ([1, 0], [2, 0, 1], None)
    """
    matches = [_RANK.search(stem) for stem in stems]
    marks = [match[0].lower() for match in matches if match]
    letters = sum(mark.startswith("_") for mark in marks)
    if len(marks) < len(stems) or letters not in (0, len(marks)):
        return None
    values = [0 if mark == "_w" else 1 if mark == "_l" else int(mark) for mark in marks]
    levels = sorted(set(values))
    return [levels.index(value) for value in values] if len(levels) > 1 else None
