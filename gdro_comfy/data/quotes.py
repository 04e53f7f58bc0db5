"""Quotes: the texts that a prompt puts in double quotes, and what a message quotes of a user's text."""

from __future__ import annotations

import re

_LINE = 80
"""Most letters that a message quotes."""

_DOUBLE = '"“”„‟＂'
_PAIRS = re.compile(r"«([^«»]*)»|「([^「」]*)」|『([^『』]*)』")
_OPENS_AFTER = re.compile(r"[\s(\[{:,;=—–-]")


def excerpt(value: object, most: int = _LINE) -> str:
    r"""Return a value as a message quotes it: a text in quotes, on one line, and no longer than a line.

    >>> excerpt("one\ntwo"), excerpt([1, "x" * 100], 12)
    ("'one\\ntwo'", "[1, 'xxxxxxx...")
    """
    try:
        text = repr(value[: most + 1] if isinstance(value, str) else value)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        text = f"a {type(value).__name__}"
    return text if len(text) <= most + 2 else text[:most] + "..."


def quoted(text: str) -> list[str]:
    r"""Return what a text has in double quotes, in order and without the empty ones.

    Straight, typographic and full-width quotes count, « », 「 」, 『 』. A backslash before a quote is left
    out, and ``\n`` is a space. A quote after a digit is an inch mark where none is open. A quote that opens
    inside another is part of it.

    >>> quoted('a 12" record with the word "LOVE"'), quoted('it says "He said "HI" to me"')
    (['LOVE'], ['He said "HI" to me'])

    Returns:
        Nothing of a quote that is never closed.
    """
    text = re.sub(r"\\([\"“”„‟])", r"\1", text).replace("\\n", " ")
    found = [
        (match.start(), "".join(filter(None, match.groups()))) for match in _PAIRS.finditer(text)
    ]
    opened: list[int] = []
    for index, character in enumerate(text):
        if character not in _DOUBLE:
            continue
        if not opened:
            if not _is_inch_mark(text, index):
                opened.append(index)
        elif _opens(text, index):
            opened.append(index)
        else:
            start = opened.pop()
            if not opened:
                found.append((start, text[start + 1 : index]))
    parts = (" ".join(part.split()) for _, part in sorted(found))
    return [part for part in parts if part]


def _opens(text: str, index: int) -> bool:
    """Whether a quote inside another one opens: it has a gap before it, and a letter after it."""
    before, after = text[index - 1], text[index + 1 : index + 2]
    return (
        text[index] != "”"
        and bool(_OPENS_AFTER.match(before))
        and bool(after)
        and after.isalnum()
        and any(character in _DOUBLE for character in text[index + 1 :])
    )


def _is_inch_mark(text: str, index: int) -> bool:
    before, after = text[index - 1 : index], text[index + 1 : index + 2]
    return text[index] in '"”＂' and before.isdigit() and not after.isalnum()
