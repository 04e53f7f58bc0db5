"""The translations of nodes, help pages and panels: what exists, what is missing, and what is wrong.

``tools/translations/<language>.json`` is ``{section: {English: translation}}``. A section is a node's id;
``shared`` for texts of several nodes; or ``page``, ``panels`` and ``categories`` for texts that belong to no
node. The English text is the key. If it changes, its translation becomes stale, which is an error, and the
new text stays English until it is translated, which is a warning.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent / "translations"
LANGUAGES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
SHARED = "shared"
_CODE = re.compile(r"`[^`]*`")
_VERBATIM = re.compile(r"`[^`]*`|\{\w+\}|\]\([^)]*\)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_BY_LINE = ("|", "- ", "* ", "1. ", "```")


def translatable(text: str) -> bool:
    """Return whether a text has letters outside backquotes."""
    return any(letter.isalpha() for letter in _CODE.sub("", text))


def lost_parts(english: str, translation: str) -> list[str]:
    """Return the code, placeholders, links and figures that a translation must keep but lacks."""
    lost = [part for part in _VERBATIM.findall(english) if part not in translation]
    plain = [_VERBATIM.sub(" ", text).replace(",", "") for text in (english, translation)]
    remaining = _NUMBER.findall(plain[1])
    for number in _NUMBER.findall(plain[0]):
        if number in remaining:
            remaining.remove(number)
        else:
            lost.append(number)
    return lost


class Words:
    """The texts of one language; a text without a translation stays English.

    ``requested`` has every text that was looked up, and the sections that it was looked up in.
    """

    def __init__(
        self, language: str = "en", table: dict[str, dict[str, str]] | None = None
    ) -> None:
        self.language = language
        self.table = table or {}
        self.requested: dict[str, set[str]] = {}

    def __call__(self, section: str, text: str) -> str:
        """Return a text in this language."""
        if not translatable(text):
            return text
        self.requested.setdefault(text, set()).add(section)
        source = self._source(section, text)
        return text if source is None else self.table[source][text]

    def prose(self, section: str, text: str) -> str:
        """Translate paragraphs, each as a whole, and tables and lists line by line."""
        translated = []
        for block in text.split("\n\n"):
            english = units(block)
            lines = [self(section, unit) for unit in english]
            translated.append(block if lines == english else "\n".join(lines))
        return "\n\n".join(translated)

    def _source(self, section: str, text: str) -> str | None:
        """Return the section of the table that has a text's translation."""
        sources = (one for one in (section, SHARED) if text in self.table.get(one, {}))
        return next(sources, None)

    def translated(self) -> Iterator[tuple[str, str, str]]:
        """Yield the section, English text and translation of every text that was looked up."""
        for text, sections in self.requested.items():
            for section in sorted(sections):
                source = self._source(section, text)
                if source is not None:
                    yield section, text, self.table[source][text]

    def missing(self) -> dict[str, list[str]]:
        """Return the texts without a translation, by the section where they belong."""
        gaps: dict[str, list[str]] = {}
        for text, sections in self.requested.items():
            without = [one for one in sorted(sections) if self._source(one, text) is None]
            if without:
                gaps.setdefault(SHARED if len(without) > 1 else without[0], []).append(text)
        return gaps

    def stale(self) -> Iterator[tuple[str, str]]:
        """Yield section and English text of the translations that nothing looked up."""
        used = {
            (self._source(section, text), text)
            for text, sections in self.requested.items()
            for section in sections
        }
        for section, texts in self.table.items():
            for text in texts:
                if (section, text) not in used:
                    yield section, text


def units(block: str) -> list[str]:
    """Split a block into the units that are translated: a paragraph, or the lines of a table or list."""
    if block.startswith(_BY_LINE):
        return block.split("\n")
    return [" ".join(block.split())]


def read(language: str) -> dict[str, dict[str, str]]:
    """Read the translations of a language."""
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def to_fill_in(words: Words) -> str:
    """Return the texts that a language lacks as JSON to fill in, empty if it is complete."""
    skeleton = {section: dict.fromkeys(texts, "") for section, texts in words.missing().items()}
    return json.dumps(skeleton, indent=1, ensure_ascii=False) if skeleton else ""


def errors(words: Words, titles: Mapping[str, str]) -> list[str]:
    """Return what is wrong with the translations of a language, a line for each fault.

    Args:
        words: a language, with every text looked up.
        titles: the English title of each node, by node id.
    """
    untranslated = [text for texts in words.missing().values() for text in texts]
    faults = []
    for section, text in words.stale():
        similar = difflib.get_close_matches(text, untranslated, 1, 0.5)
        hint = f"\n  is now: {similar[0]}" if similar else ""
        faults.append(f"stale in {section}: {text}{hint}")
    names = {title: words(node_id, title) for node_id, title in titles.items()}
    for section, text, translation in words.translated():
        lost = lost_parts(text, translation)
        if lost:
            faults.append(f"lost in {section}: {', '.join(lost)}\n  in: {translation}")
        for title, name in names.items():
            if (name in translation) != (title in text):
                faults.append(f"{name!r} is not where {title!r} is, in {section}: {translation}")
    return faults
