"""Ratings by hand from a CSV file: a template to fill in, and reading it back.

The first line names the columns, in any order:

- the picture: ``file`` (``<group>/003.png``, as in the run's ``prompts`` folder), or ``group`` (that
  folder's name) or ``prompt``, with ``image`` (the number of its file, from 0);
- what is thought of it: ``rating``, 1 (worst) to 5 (best), or ``rank``, 1 for the best picture of its
  prompt; an empty cell is a picture that is not rated.

Other columns are ignored. Cells are separated by commas, semicolons or tabs, in UTF-8 or UTF-16.
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
from ..data.ratings import Given
from ..errors import InputError
from . import groups, runs

_MAX_BYTES = 64 * 1024 * 1024
_SHOWN = 20
_TOO_MANY = "\n"  # in place of a column's name: what stands behind the last column
_PICTURE = re.compile(r"(?:(?:.*[/\\])?([0-9a-f]{12})[/\\]|(?:.*[/\\])?)([0-9]{3,6})\.png")


@dataclass(frozen=True)
class _Pictures:
    """The pictures of a run: prompts and image numbers by group, and groups by prompt."""

    prompts: dict[str, str]
    images: dict[str, set[int]]
    groups: dict[str, list[str]]


class _Misfit(ValueError):
    """What is wrong with a line, in words."""


def find_run(output_dir: Path, name: str) -> Path:
    """The folder of a run, by the name of its folder or the name that it was given, if only one has it.

    Raises:
        InputError: there is no such run, or there are several.
    """
    found = runs.folders(output_dir)
    if name in found:
        return found[name]
    named = [run["run"] for run in runs.summaries(output_dir) if run["name"] == name]
    if len(named) == 1:
        return found[named[0]]
    raise InputError(
        "RUN",
        f"there are {len(named)} runs called {name!r}" if named else f"there is no run {name!r}",
        f"Use one of: {', '.join(named or found) or 'none in this --output folder'}.",
    )


def write_template(run: Path, path: Path) -> int:
    """Write a file with a line for each picture of a run, to be filled in; their number.

    Raises:
        InputError: the file is there already, or cannot be written.
    """
    if path.exists():
        raise InputError("CSV", f"{path} is there already", "Choose another name.")
    pictures, known = _read_run(run), ratings.read(run)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(["group", "prompt", "image", "file", "rating"])
    count = 0
    for group, images in pictures.images.items():
        given = known.get(group, Given([]))
        stars = {} if given.ranked else dict(enumerate(given.numbers))
        prompt = pictures.prompts[group]
        # A spreadsheet would take these for a formula.
        shown = f"'{prompt}" if prompt[:1] in "=+-@" else prompt
        for image in sorted(images):
            file = f"{group}/{image:03d}.png"
            writer.writerow([group, shown, image, file, stars.get(image) or ""])
            count += 1
    try:
        # With a mark at its start, without which spreadsheets read other letters than English wrongly.
        write_atomic(path, lambda file: file.write(text.getvalue().encode("utf-8-sig")))
    except OSError as error:
        raise InputError(
            "CSV", f"{path} cannot be written ({error.strerror})", "Choose another place."
        ) from error
    return count


def read_into(run: Path, path: Path) -> dict[str, Given]:
    """Take over the ratings of a file, and return what its groups now have. Pictures that the file does
    not name keep what they had, unless their group changes between ratings and ranks.

    Raises:
        InputError: the file cannot be read, or lines do not fit, all of which are named; then nothing is
            written.
    """
    rows, ranked = _rows(_text(path))
    pictures, problems = _read_run(run), []
    found: dict[str, dict[int, int | None]] = {}
    for line, row in rows:
        try:
            group, image = _which(row, pictures)
            number = _number(row, ranked)
            if found.setdefault(group, {}).setdefault(image, number) != number:
                raise _Misfit(
                    f"image {image} of {pictures.prompts[group]!r} came before, otherwise"
                )
        except _Misfit as error:
            problems.append(f"line {line}: {error}")
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        lines = "1 line does not fit" if len(problems) == 1 else f"{len(problems)} lines do not fit"
        listed = "\n  ".join(["Mend them:", *problems[:_SHOWN], *more])
        raise InputError(path.name, f"{lines}, and nothing was written", listed)
    if not any(number is not None for group in found.values() for number in group.values()):
        column = "rank" if ranked else "rating"
        raise InputError(path.name, "there is no rating in it", f"Fill in the column {column}.")
    given = _merged(found, ranked, ratings.read(run))
    ratings.write(run, given)
    return given


def _merged(
    found: Mapping[str, Mapping[int, int | None]], ranked: bool, known: Mapping[str, Given]
) -> dict[str, Given]:
    merged = {}
    for group, changes in found.items():
        before = known.get(group, Given([], ranked))
        numbers = dict(enumerate(before.numbers)) if before.ranked == ranked else {}
        numbers.update(changes)
        merged[group] = Given([numbers.get(i) for i in range(max(numbers) + 1)], ranked)
    return merged


def _read_run(run: Path) -> _Pictures:
    found = _Pictures({}, {}, {})
    offset, total = 0, 1
    while offset < total:
        try:
            page = groups.groups(run, offset=offset, limit=groups.PAGE)
        except runs.UnknownName as error:
            raise InputError("RUN", str(error), "Make its pictures first.") from error
        total, offset = page["matching"], offset + groups.PAGE
        for group in page["groups"]:
            found.prompts[group["group"]] = group["prompt"]
            found.images[group["group"]] = {image["image"] for image in group["images"]}
            found.groups.setdefault(_plain(group["prompt"]), []).append(group["group"])
    return found


def _plain(text: str) -> str:
    """A prompt as it is compared: one way to write a letter, and single spaces."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(path.name, "it has more than 64 MB", "Use a smaller part of it.")
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
    """Lines with their numbers, cells by lower-case column; and whether they give ranks."""
    first, _, rest = text.partition("\n")
    skipped = bool(re.fullmatch(r"sep=.\s*", first))  # a hint that spreadsheets write
    if skipped:
        text, first = rest, rest.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows = []
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        _check_columns(columns)
        for cells in reader:
            plain = [cell.strip() for cell in cells]
            if any(plain):
                named = dict(zip(columns, plain, strict=False))
                named[_TOO_MANY] = "".join(plain[len(columns) :])
                rows.append((reader.line_num + skipped, named))
    except csv.Error as error:
        raise InputError(
            "CSV", f"line {reader.line_num + skipped} is no CSV ({error})", "Save the file again."
        ) from error
    return rows, "rank" in columns


def _check_columns(columns: list[str]) -> None:
    where = "file" in columns or ("image" in columns and {"group", "prompt"} & set(columns))
    if not where or ("rating" in columns) == ("rank" in columns):
        raise InputError(
            "CSV",
            f"its first line names {', '.join(filter(None, columns)) or 'no columns'}",
            "It has to name file, or group (or prompt) and image; and rating or rank, one of them. "
            "gdro-comfy rate RUN FILE.csv --template writes one to fill in.",
        )


def _which(row: Mapping[str, str], pictures: _Pictures) -> tuple[str, int]:
    """Group and number of the picture of a line."""
    if row[_TOO_MANY]:
        raise _Misfit("it has more cells than the first line; text with separators needs quotes")
    group, image = row.get("group", ""), row.get("image", "")
    if row.get("file"):
        match = _PICTURE.fullmatch(row["file"])
        if not match:
            raise _Misfit(
                f"{row['file'][:80]!r} is no picture's file, such as 0123456789ab/003.png"
            )
        if (group and match[1] and match[1] != group) or (image and image != str(int(match[2]))):
            raise _Misfit("its columns name different pictures")
        group, image = match[1] or group, str(int(match[2]))
    if not group:
        named = pictures.groups.get(_plain(row.get("prompt", "")), [])
        if len(named) != 1:
            how = "several groups have" if named else "no group has"
            raise _Misfit(f"{how} the prompt {row.get('prompt', '')[:80]!r}")
        group = named[0]
    if group not in pictures.images:
        raise _Misfit(f"there is no group {group[:80]!r}")
    number = int(image) if re.fullmatch(r"[0-9]{1,6}", image) else -1
    if number not in pictures.images[group]:
        raise _Misfit(f"there is no image {image[:20]!r} of {pictures.prompts[group]!r}")
    return group, number


def _number(row: Mapping[str, str], ranked: bool) -> int | None:
    """The rating or rank of a line; spreadsheets write 4 as 4.0 or 4,0 now and then."""
    text = row.get("rank" if ranked else "rating", "")
    if not text:
        return None
    highest = ratings.MOST if ranked else ratings.HIGHEST
    match = re.fullmatch(r"([0-9]{1,6})(?:[.,]0*)?", text)
    if not match or not 1 <= int(match[1]) <= highest:
        allowed = "from 1" if ranked else f"from {ratings.LOWEST} to {ratings.HIGHEST}"
        raise _Misfit(f"{text[:20]!r} is no whole number {allowed}")
    return int(match[1])


def in_words(given: Mapping[str, Given]) -> str:
    """What was taken over."""
    images = sum(number is not None for one in given.values() for number in one.numbers)
    groups = sum(one.differ() for one in given.values())
    return (
        f"{images} pictures of {len(given)} groups are rated; in {groups} of these groups two differ, "
        "so that there is something to learn"
    )
