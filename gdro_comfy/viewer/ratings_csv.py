"""Ratings by hand in a CSV file: write a template to fill in, and read it back.

The first line names the columns, in any order:

- the image: ``file`` (``<group>/003.png``, as in the run's ``prompts`` folder), or ``image`` (the number
  in the name of its file, from 0) with ``group`` (the name of its folder) or ``prompt``;
- its rating: ``rating``, 1 (worst) to 5 (best), or ``rank``, 1 for the best image of its prompt; an empty
  cell means that the image is not rated.

Other columns are ignored. Cells are separated by commas, semicolons or tabs; the text is UTF-8 or UTF-16.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..data import ratings
from ..data.files import write_atomic
from ..data.quotes import excerpt
from ..data.ratings import GroupRating
from ..errors import InputError
from . import groups, runs

_MAX_BYTES = 64 * 1024 * 1024
_MAX_PROBLEMS = 20
_SURPLUS = "\n"  # key of the cells behind the last column; no column can have this name
_IMAGE_FILE = re.compile(r"(?:(?:.*[/\\])?([0-9a-f]{12})[/\\]|(?:.*[/\\])?)([0-9]{3,6})\.png")


@dataclass(frozen=True)
class _RunImages:
    """The images of a run.

    Args:
        prompts: group id -> prompt.
        images: group id -> indices of its images.
        groups: prompt, as ``_normalize`` returns it -> ids of its groups.
    """

    prompts: dict[str, str]
    images: dict[str, set[int]]
    groups: dict[str, list[str]]


class _LineError(ValueError):
    """What is wrong with a line, in words."""


def find_run(output_dir: Path, name: str) -> Path:
    """Return the folder of a run, by the folder's name or by the name that the user gave the run.

    Raises:
        InputError: there is no such run, or several have this name.
    """
    folders = runs.folders(output_dir)
    if name in folders:
        return folders[name]
    matches = [key for key, folder in folders.items() if runs.display_name(folder) == name]
    if len(matches) == 1:
        return folders[matches[0]]
    raise InputError(
        "RUN",
        f"there are {len(matches)} runs called {excerpt(name)}"
        if matches
        else f"there is no run {excerpt(name)}",
        f"Use one of: {', '.join(matches or folders) or 'none in this --output folder'}.",
    )


def write_template(run: Path, path: Path) -> int:
    """Write a file with a line for each image of a run, to be filled in; return their number.

    Raises:
        InputError: the file exists already, or cannot be written.
    """
    if path.exists():
        raise InputError("CSV", f"{path} exists already", "Choose another name.")
    run_images, rated = _read_run(run), ratings.read(run)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["group", "prompt", "image", "file", "rating"])
    count = 0
    for group, indices in run_images.images.items():
        rating = rated.get(group, GroupRating([]))
        stars = {} if rating.ranked else dict(enumerate(rating.values))
        prompt = run_images.prompts[group]
        # A spreadsheet would take these for a formula.
        quoted = f"'{prompt}" if prompt[:1] in "=+-@" else prompt
        for index in sorted(indices):
            file = f"{group}/{index:03d}.png"
            writer.writerow([group, quoted, index, file, stars.get(index) or ""])
            count += 1
    try:
        # Spreadsheets read anything but English letters wrongly without a byte order mark.
        write_atomic(path, lambda file: file.write(text.getvalue().encode("utf-8-sig")))
    except OSError as error:
        raise InputError(
            "CSV", f"{path} cannot be written ({error.strerror})", "Choose another folder."
        ) from error
    return count


def read_into(run: Path, path: Path) -> dict[str, GroupRating]:
    """Store the ratings of a file in a run, and return the ratings that its groups now have.

    Images that the file does not name keep their ratings, unless their group changes between ratings
    and ranks.

    Raises:
        InputError: the file cannot be read, or some lines do not fit. The message lists them, and
            nothing is stored.
    """
    rows, ranked = _rows(_text(path))
    run_images, problems = _read_run(run), []
    changes: dict[str, dict[int, int | None]] = {}
    for line, row in rows:
        try:
            group, index = _locate(row, run_images)
            number = _number(row, ranked)
            if changes.setdefault(group, {}).setdefault(index, number) != number:
                raise _LineError(
                    f"image {index} of {excerpt(run_images.prompts[group])} is rated differently above"
                )
        except _LineError as error:
            problems.append(f"line {line}: {error}")
    if problems:
        more = (
            [f"and {len(problems) - _MAX_PROBLEMS} more"] if len(problems) > _MAX_PROBLEMS else []
        )
        lines = "1 line does not fit" if len(problems) == 1 else f"{len(problems)} lines do not fit"
        listed = "\n  ".join(["Correct them:", *problems[:_MAX_PROBLEMS], *more])
        raise InputError(path.name, f"{lines}, and nothing was written", listed)
    if not any(number is not None for group in changes.values() for number in group.values()):
        column = "rank" if ranked else "rating"
        raise InputError(path.name, "there are no ratings in it", f"Fill in the column {column}.")
    merged = _merge(changes, ranked, ratings.read(run))
    ratings.write(run, merged)
    return merged


def _merge(
    changes: Mapping[str, Mapping[int, int | None]], ranked: bool, rated: Mapping[str, GroupRating]
) -> dict[str, GroupRating]:
    merged = {}
    for group, numbers in changes.items():
        before = rated.get(group, GroupRating([], ranked))
        after = dict(enumerate(before.values)) if before.ranked == ranked else {}
        after.update(numbers)
        merged[group] = GroupRating([after.get(index) for index in range(max(after) + 1)], ranked)
    return merged


def _read_run(run: Path) -> _RunImages:
    run_images = _RunImages({}, {}, {})
    offset, total = 0, 1
    while offset < total:
        try:
            page = groups.page(run, offset=offset, limit=groups.PAGE)
        except runs.UnknownName as error:
            raise InputError("RUN", str(error), "Make its pictures first.") from error
        total, offset = page["matching"], offset + groups.PAGE
        for group in page["groups"]:
            run_images.prompts[group["group"]] = group["prompt"]
            run_images.images[group["group"]] = {image["image"] for image in group["images"]}
            prompt = _normalize(group["prompt"])
            run_images.groups.setdefault(prompt, []).append(group["group"])
    return run_images


def _normalize(text: str) -> str:
    """Return a prompt in a form to compare: composed letters, single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(path.name, "it is larger than 64 MB", "Split it into smaller files.")
        data = path.read_bytes()
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        return data.decode("utf-16" if wide else "utf-8-sig")
    except OSError as error:
        raise InputError(
            "CSV", f"{path} cannot be read ({error.strerror})", "Choose a file that exists."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            path.name, "it is not text in UTF-8", "Save it again as CSV in UTF-8."
        ) from error


def _rows(text: str) -> tuple[list[tuple[int, dict[str, str]]], bool]:
    """Return the lines with their numbers, as cells by lower-case column, and whether they give ranks."""
    first, _, rest = text.partition("\n")
    skipped = bool(re.fullmatch(r"sep=.\s*", first))  # spreadsheets name the separator like this
    if skipped:
        text, first = rest, rest.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        _check_columns(columns)
        for line in reader:
            cells = [cell.strip() for cell in line]
            if any(cells):
                row = dict(zip(columns, cells, strict=False))
                row[_SURPLUS] = "".join(cells[len(columns) :])
                rows.append((reader.line_num + skipped, row))
    except csv.Error as error:
        raise InputError(
            "CSV", f"line {reader.line_num + skipped} is not valid CSV ({error})",
            "Save the file again.",
        ) from error  # fmt: skip
    return rows, "rank" in columns


def _check_columns(columns: list[str]) -> None:
    locates = "file" in columns or ("image" in columns and {"group", "prompt"} & set(columns))
    if not locates or ("rating" in columns) == ("rank" in columns):
        raise InputError(
            "CSV",
            f"its first line names {', '.join(filter(None, columns))[:80] or 'no columns'}",
            "It has to name file, or image with group or prompt; and either rating or rank. "
            "gdro-comfy rate RUN FILE.csv --template writes a file to fill in.",
        )


def _locate(row: Mapping[str, str], run_images: _RunImages) -> tuple[str, int]:
    """Return the group and the index of the image that a line is about."""
    if row[_SURPLUS]:
        raise _LineError(
            "it has more cells than the first line; put text with separators in quotes"
        )
    group, image = row.get("group", ""), row.get("image", "")
    if row.get("file"):
        match = _IMAGE_FILE.fullmatch(row["file"])
        if not match:
            raise _LineError(
                f"{row['file'][:80]!r} is not the file of a picture, such as 0123456789ab/003.png"
            )
        if (group and match[1] and match[1] != group) or (image and image != str(int(match[2]))):
            raise _LineError("its columns name different pictures")
        group, image = match[1] or group, str(int(match[2]))
    if not group:
        matches = run_images.groups.get(_normalize(row.get("prompt", "")), [])
        if len(matches) != 1:
            how_many = "several groups have" if matches else "no group has"
            raise _LineError(f"{how_many} the prompt {row.get('prompt', '')[:80]!r}")
        group = matches[0]
    if group not in run_images.images:
        raise _LineError(f"there is no group {group[:80]!r}")
    index = int(image) if re.fullmatch(r"[0-9]{1,6}", image) else -1
    if index not in run_images.images[group]:
        raise _LineError(
            f"there is no image {image[:20]!r} of {excerpt(run_images.prompts[group])}"
        )
    return group, index


def _number(row: Mapping[str, str], ranked: bool) -> int | None:
    """Return the rating or rank of a line; spreadsheets may write 4 as 4.0 or 4,0."""
    text = row.get("rank" if ranked else "rating", "")
    if not text:
        return None
    highest = ratings.MAX_RANK if ranked else ratings.MAX_STARS
    match = re.fullmatch(r"([0-9]{1,6})(?:[.,]0*)?", text)
    if not match or not 1 <= int(match[1]) <= highest:
        allowed = "from 1" if ranked else f"from {ratings.MIN_STARS} to {ratings.MAX_STARS}"
        raise _LineError(f"{text[:20]!r} is not a whole number {allowed}")
    return int(match[1])


def summary(rated: Mapping[str, GroupRating]) -> str:
    """Return in words what was stored."""
    images = sum(number is not None for rating in rated.values() for number in rating.values)
    groups = sum(rating.differ() for rating in rated.values())
    return (
        f"{images} pictures in {len(rated)} groups are rated; {groups} of these groups have different "
        "ratings, and can be learned from"
    )
