"""Files of prompts as rows: lines of text, tables and JSON, whatever program wrote them.

What would be taken wrongly without a word is refused with its line: options of other programs, a comma in
unquoted text, encodings other than UTF-8 and UTF-16.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from .quotes import excerpt

log = logging.getLogger(__name__)

TEXT_NAMES = ("text", "prompt", "prompts", "caption")
"""Columns and fields that hold the prompt, whatever their capitals; the first that is not empty counts."""
_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons"}
_LINE_ENDS = re.compile(r"\r\n|\n|\r")
_SPACES = re.compile(r"[\u2028\u2029\x0b\x0c\x85\x1c-\x1f\t]+")
"""Characters inside a prompt that other programs take for the end of a line."""
_OPTIONS = (
    (re.compile(r"(?:^|\s)--[a-z][\w-]*(?=\s|$)"), "the option"),
    (re.compile(r"(?:^|\s)###(?=\s|$)"), "the mark of a negative prompt,"),
    (re.compile(r"<(?:lora|lyco|hypernet):[^>]*>"), "the tag"),
    (re.compile(r"(?:^|\s)(?:Negative prompt|Steps): "), "the setting"),
)
"""What A1111, kohya's tools and Midjourney write beside a prompt."""

_QUOTED_CELL = re.compile(r'(?:^|\t)"(?:[^"]|"")*"(?=[\t\r\n]|\Z)', re.MULTILINE)

_MOST_OPTIONS = 0.1

Row = tuple[int, Mapping[str, Any]]
"""The number of a line, and what stands on it as a field "text" and others."""


def read(path: Path, input_name: str, most_bytes: int) -> Iterator[Row]:
    """Yield the rows of a file of at most so many bytes, in the format of its extension.

    Raises:
        InputError: the file, or a line of it, cannot be read; names the line.
    """
    readers = {
        ".txt": lines, ".jsonl": _json_rows, ".csv": _table, ".tsv": _table, ".json": _json_rows,
    }  # fmt: skip
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise InputError(
            input_name,
            f"{path.name} is not a kind known here",
            f"Use one of {', '.join(readers)}.",
        )
    return reader(_decoded(path, input_name, most_bytes), input_name)


def unusable(line: int, reason: object) -> InputError:
    """Return the error for a line."""
    return InputError(
        "file",
        f"line {line} cannot be used: {reason}",
        'Mend the line. A line of .jsonl is like {"text": "two red circles"}; the first line of a table '
        "names its columns, and text with commas is in double quotes.",
    )


def lines(text: str, input_name: str) -> Iterator[Row]:
    """Yield a row for each line; blank ones and those that begin with # are left out, and counted.

    Options of other programs are words of the prompt where few lines have them, as in collections of prompts.
    Where more than a tenth does, the file was written for that program, and is refused.
    """
    comments: list[str] = []
    options: list[str] = []
    rows: list[Row] = []
    for number, line in enumerate(_LINE_ENDS.split(text), 1):
        line = _SPACES.sub(" ", line).strip()
        if line.startswith("#"):
            comments.append(line)
        elif line:
            rows.append((number, {"text": line}))
            for pattern, words in _OPTIONS:
                found = pattern.search(line)
                if found:
                    options.append(
                        f"line {number} has {words} {excerpt(found[0].strip())} of another program"
                    )
                    break
    if len(options) > len(rows) * _MOST_OPTIONS:
        raise InputError(
            input_name,
            options[0],
            "Leave only the prompt on it. Size, steps and guidance are inputs of the nodes.",
        )
    if options:
        log.warning(
            "%d lines have options of other programs, which are taken for words of the prompt; %s",
            len(options), options[0],
        )  # fmt: skip
    if comments:
        log.warning(
            "%d lines that begin with # are left out as comments; the first is %r",
            len(comments), comments[0][:60],
        )  # fmt: skip
    yield from rows


def _decoded(path: Path, input_name: str, most_bytes: int) -> str:
    try:
        if path.stat().st_size > most_bytes:
            raise InputError(
                input_name,
                f"{path.name} has more than {most_bytes // 1024**2} MB",
                "Use a smaller part of it.",
            )
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            input_name, f"{path} cannot be read ({error.strerror})", "Choose a file that exists."
        ) from error
    encoding = "utf-8-sig"
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif data[1:2] == b"\0" or data[:1] == b"\0":
        encoding = "utf-16-le" if data[1:2] == b"\0" else "utf-16-be"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            input_name, f"{path.name} is not text in UTF-8", "Save it again as UTF-8 text."
        ) from error
    if "\0" in text:
        raise InputError(
            input_name, f"{path.name} is not text in UTF-8: it contains zeros",
            "Save it again as UTF-8 text.",
        )  # fmt: skip
    return text


def _named(row: Mapping[Any, Any]) -> dict[str, Any]:
    """Return a row with its prompt as "text", and its other fields in lower case."""
    fields = {str(name).strip().lower(): v for name, v in row.items() if v is not None}
    texts = (fields[name] for name in TEXT_NAMES if name in fields)
    text = next((t for t in texts if not isinstance(t, str) or t.strip()), None)
    for name in TEXT_NAMES:
        fields.pop(name, None)
    for name in ("include", "exclude"):
        if isinstance(fields.get(name), str) and fields[name].lstrip().startswith("["):
            fields[name] = json.loads(fields[name])
    return fields if text is None else {"text": text, **fields}


def _json_rows(text: str, input_name: str) -> Iterator[Row]:
    """Yield the rows of JSON lines, or of one list, whose items are objects or prompts."""
    if text.lstrip().startswith("["):
        try:
            items = list(enumerate(json.loads(text), 1))
        except (ValueError, RecursionError) as error:
            raise unusable(getattr(error, "lineno", 1), error) from error
    else:
        # splitlines would also break at characters that JSON allows inside a string.
        items = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    for number, item in items:
        try:
            row = (
                json.loads(item)
                if isinstance(item, str) and not text.lstrip().startswith("[")
                else item
            )
            if isinstance(row, str):
                row = {"text": row}
            if not isinstance(row, dict):
                raise ValueError("it is not an object in {}")
            yield number, _named(row)
        except (ValueError, RecursionError) as error:
            raise unusable(number, error) from error


def _table(text: str, input_name: str) -> Iterator[Row]:
    """Yield the rows of a table, whose first line names the columns and shows what separates them."""
    head = next(iter(_LINE_ENDS.split(text.lstrip("\ufeff"))), "")
    names = {separator: _cells(head, separator) for separator in _SEPARATORS}
    known = [s for s, cells in names.items() if set(cells) & set(TEXT_NAMES)]
    separator = max(known, key=lambda s: len(names[s]), default=",")
    if not known:
        columns = max(names.values(), key=len)
        raise unusable(1, f"it names no column text or prompt, only {excerpt(columns)}")
    columns = names[separator]
    spaced = f"{separator} " in head
    # A table of tabs quotes a cell only as a whole, if at all: other quotes belong to the prompt.
    plain = separator == "\t" and not _QUOTED_CELL.search(text)
    reader = csv.reader(
        io.StringIO(text.lstrip("\ufeff"), newline=""), delimiter=separator, strict=True,
        skipinitialspace=spaced, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL,
    )  # fmt: skip
    line = 1
    try:
        for cells in reader:
            if line > 1 and any(cell.strip() for cell in cells):
                if len(cells) > len(columns):
                    raise ValueError(
                        "it has more cells than the first line; quote text with commas"
                    )
                loose = not spaced and separator == ","
                if loose and any(re.match(r" \S", cell) for cell in cells[1:]):
                    raise ValueError("a space follows a comma, as in text that is not quoted")
                pairs = zip(columns, cells, strict=False)
                yield line, _named({name: cell for name, cell in pairs if cell.strip()})
            line = (
                reader.line_num + 1
            )  # where the next row begins, which a missing quote may prolong
    except (ValueError, csv.Error) as error:
        raise unusable(line, error) from error


def _cells(head: str, separator: str) -> list[str]:
    return [cell.strip().strip('"').strip().lower() for cell in head.split(separator)]
