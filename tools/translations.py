"""The words of the nodes, help pages and panels in other languages: what there is, and what is missing.

``tools/translations/<language>.json`` is ``{section: {English: translation}}``. A section is a node's id;
``shared``, for texts of several nodes; or ``page``, ``panels`` and ``categories`` for what is no node's. As
the English text is the key, a translation cannot outlive a change of it: it is then left over, and the
new text is missing.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent / "translations"
LANGUAGES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))
SHARED = "shared"
_CODE = re.compile(r"`[^`]*`")
_KEPT = re.compile(r"`[^`]*`|\{\w+\}|\]\([^)]*\)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_BY_LINE = ("|", "- ", "* ", "1. ", "```")


def speaks(text: str) -> bool:
    """Whether there is anything to translate: letters outside of backquotes."""
    return any(letter.isalpha() for letter in _CODE.sub("", text))


def unfaithful(english: str, translation: str) -> list[str]:
    """What a translation has to keep and does not: code, placeholders, links and figures."""
    lost = [part for part in _KEPT.findall(english) if part not in translation]
    plain = [_KEPT.sub(" ", text).replace(",", "") for text in (english, translation)]
    left = _NUMBER.findall(plain[1])
    for number in _NUMBER.findall(plain[0]):
        if number in left:
            left.remove(number)
        else:
            lost.append(number)
    return lost


class Words:
    """The words of one language; English where it is not given one, or has no translation.

    ``asked`` has every text that was asked for and the sections that did.
    """

    def __init__(
        self, language: str = "en", table: dict[str, dict[str, str]] | None = None
    ) -> None:
        self.language = language
        self.table = table or {}
        self.asked: dict[str, set[str]] = {}

    def __call__(self, section: str, text: str) -> str:
        """A text in this language."""
        if not speaks(text):
            return text
        self.asked.setdefault(text, set()).add(section)
        place = self._place(section, text)
        return text if place is None else self.table[place][text]

    def prose(self, section: str, text: str) -> str:
        """Paragraphs, each translated as a whole, of tables and lists each line."""
        done = []
        for block in text.split("\n\n"):
            units = lines(block)
            said = [self(section, unit) for unit in units]
            done.append(block if said == units else "\n".join(said))
        return "\n\n".join(done)

    def _place(self, section: str, text: str) -> str | None:
        found = (one for one in (section, SHARED) if text in self.table.get(one, {}))
        return next(found, None)

    def missing(self) -> dict[str, list[str]]:
        """The texts without a translation, by the section where they belong."""
        gaps: dict[str, list[str]] = {}
        for text, sections in self.asked.items():
            without = [one for one in sorted(sections) if self._place(one, text) is None]
            if without:
                gaps.setdefault(SHARED if len(without) > 1 else without[0], []).append(text)
        return gaps

    def left_over(self) -> Iterator[tuple[str, str]]:
        """Translations that nothing asked for: section and English text."""
        used = {
            (self._place(section, text), text)
            for text, sections in self.asked.items()
            for section in sections
        }
        for section, texts in self.table.items():
            for text in texts:
                if (section, text) not in used:
                    yield section, text


def lines(block: str) -> list[str]:
    """The units of a paragraph that are translated: it as one line, or the lines of a table or list."""
    if block.startswith(_BY_LINE):
        return block.split("\n")
    return [" ".join(block.split())]


def read(language: str) -> dict[str, dict[str, str]]:
    """The translations of a language."""
    return json.loads((FOLDER / f"{language}.json").read_text(encoding="utf-8"))


def report(words: Words) -> str:
    """What a language lacks, as JSON to fill in, and what no English text asks for any more.

    An empty text for a language that has all.
    """
    left = list(words.left_over())
    parts = []
    gaps = words.missing()
    if gaps:
        skeleton = {section: dict.fromkeys(texts, "") for section, texts in gaps.items()}
        parts.append(json.dumps(skeleton, indent=1, ensure_ascii=False))
    for section, text in left:
        close = difflib.get_close_matches(
            text, [t for texts in gaps.values() for t in texts], 1, 0.5
        )
        now = f"\n  is now: {close[0]}" if close else ""
        parts.append(f"left over in {section}: {text}{now}")
    return "\n".join(parts)
