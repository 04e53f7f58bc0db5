"""Prompts, and the three sources they come from: text, a file, a shipped set."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import InputError
from . import prompt_files, quotes
from .files import digest
from .prompt_files import Row
from .quotes import excerpt

log = logging.getLogger(__name__)

RELATIONS = ("left of", "right of", "above", "below")
MAX_PROMPTS = 10_000
MAX_BYTES = 64 * 1024 * 1024
_SHIPPED = Path(__file__).parent.parent / "assets" / "prompts"


@dataclass(frozen=True)
class Prompt:
    """What an image should show.

    Args:
        text: the prompt for the model.
        include: what the image must contain, in GenEval's form: dicts with "class", "count" and,
            optionally, "color" and "position". A position ``[relation, i]`` locates the objects of this
            entry relative to those of the *earlier* entry ``i``: in "a circle left of a square" the
            circle is entry 0 and the square is ``["right of", 0]``.
        target: words that must be legible in the image; without it, those in double quotes.
        exclude: what must be absent, in GenEval's form: fewer than "count" of "class".
    """

    text: str
    include: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    target: str | None = None
    exclude: tuple[dict[str, Any], ...] = field(default=(), hash=False)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-able dict that ``from_json`` reads; unset fields are left out."""
        row: dict[str, Any] = {"text": self.text}
        if self.include:
            row["include"] = [dict(entry) for entry in self.include]
        if self.target is not None:
            row["target"] = self.target
        if self.exclude:
            row["exclude"] = [dict(entry) for entry in self.exclude]
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Prompt:
        """Read "text" (or GenEval's "prompt"), "include", "exclude" and "target"; ignore the rest.

        Raises:
            ValueError: a field is missing or invalid; the message says which.
        """
        text = row.get("text", row.get("prompt"))
        if not isinstance(text, str) or not text.strip():
            raise ValueError('there is no "text" with words in it')
        target = row.get("target")
        if target is not None and (not isinstance(target, str) or not target.strip()):
            raise ValueError('"target" must be words')
        include, exclude = (row.get(name) or () for name in ("include", "exclude"))
        if not isinstance(include, (list, tuple)):
            raise ValueError('"include" must be a list')
        if not isinstance(exclude, (list, tuple)):
            raise ValueError('"exclude" must be a list')
        entries = tuple(_read_entry(entry, index) for index, entry in enumerate(include))
        excluded = tuple(_read_entry(entry, 0) for entry in exclude)
        return cls(text.strip(), entries, target, excluded)


def _read_entry(entry: Any, index: int) -> dict[str, Any]:
    """Check one entry of "include"; a missing count is 1."""
    where = f'entry {index} of "include"'
    if not isinstance(entry, Mapping) or not _is_word(entry.get("class")):
        raise ValueError(f'{where} needs a "class"')
    count = entry.get("count", 1)
    if isinstance(count, float) and count.is_integer():
        count = int(count)  # as tables with gaps have it
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f'{where}: "count" must be a whole number from 1, not {excerpt(count)}')
    checked: dict[str, Any] = {"class": entry["class"], "count": count}
    if entry.get("color") is not None:
        if not _is_word(entry["color"]):
            raise ValueError(f'{where}: "color" must be a word')
        checked["color"] = entry["color"]
    position = entry.get("position")
    if position is not None:
        if (
            not isinstance(position, (list, tuple))
            or len(position) != 2
            or position[0] not in RELATIONS
            or position[1] not in range(index)
        ):
            raise ValueError(
                f'{where}: "position" must be one of {", ".join(RELATIONS)} and the number of an '
                f'earlier entry, e.g. ["left of", 0], not {excerpt(position)}'
            )
        checked["position"] = list(position)
    return checked


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


@dataclass(frozen=True)
class PromptSet:
    """Prompts with different texts, at least one, and the name shown for the set."""

    prompts: tuple[Prompt, ...]
    name: str

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    def limit(self, n: int, seed: int = 0) -> PromptSet:
        """Return ``n`` prompts drawn at random, in their order; all of them if there are no more."""
        if n < 1:
            raise InputError("limit", f"{n} prompts are too few", "Use 1 or more.")
        if n >= len(self):
            return self
        chosen = sorted(random.Random(seed).sample(range(len(self)), n))
        return PromptSet(tuple(self.prompts[i] for i in chosen), self.name)

    def digest(self) -> str:
        """Return a short name of the contents: the same for the same prompts in the same order."""
        return digest([prompt.to_json() for prompt in self.prompts])


def quoted_text(prompt: Prompt) -> list[str]:
    """Return the parts of a prompt in double quotes (straight, curly, « », 「 」) that are not empty.

    >>> quoted_text(Prompt('a sign that says "OPEN" over a door'))
    ['OPEN']
    """
    return quotes.quoted(prompt.text)


def from_text(text: str, name: str = "text", limit: int = 0) -> PromptSet:
    """Read one prompt per line; blank lines and lines that begin with # are skipped.

    Args:
        limit: as for ``PromptSet.limit``; 0 takes all.
    """
    return _collect(prompt_files.lines(text, "text"), name, "text", limit)


def from_file(path: Path | str, limit: int = 0) -> PromptSet:
    """Read prompts from a file, in the format of its extension.

    - ``.txt``: as ``from_text``;
    - ``.jsonl``, ``.json``: an object per line or a list, as ``Prompt.from_json`` reads it, or plain prompts;
    - ``.csv``, ``.tsv``: separated by commas, semicolons or tabs, the first line naming the columns: "text"
      or "prompt", and optionally "target" and "include" (as JSON).

    Args:
        limit: as for ``PromptSet.limit``; 0 takes all. Larger files than ``MAX_PROMPTS`` need one.

    Raises:
        InputError: the file cannot be read; the message names the line.
    """
    path = Path(path)
    return _collect(prompt_files.read(path, "file", MAX_BYTES), path.stem, "file", limit)


def shipped_names() -> list[str]:
    """Return the names that ``shipped`` knows."""
    return sorted(path.stem for path in _SHIPPED.glob("*.jsonl"))


def shipped(name: str) -> PromptSet:
    """Read a set that comes with the package; ``tools/make_prompts.py`` says what is in them."""
    if name not in shipped_names():
        raise InputError(
            "set", f"there is no set {excerpt(name)}", f"Use one of {', '.join(shipped_names())}."
        )
    return _collect(prompt_files.read(_SHIPPED / f"{name}.jsonl", "set", MAX_BYTES), name, "set")


def _collect(rows: Iterable[Row], name: str, input_name: str, limit: int = 0) -> PromptSet:
    """Drop prompts whose text has occurred before, draw ``limit`` of the others, and count them."""
    kept: dict[str, Prompt] = {}
    repeated = 0
    for line, row in rows:
        try:
            prompt = Prompt.from_json(row)
        except ValueError as error:
            raise prompt_files.unusable(line, error) from error
        key = _comparable(prompt.text)
        repeated += key in kept
        kept.setdefault(key, prompt)
    if not kept:
        raise InputError(input_name, "there are no prompts in it", "Write one prompt on each line.")
    if repeated:
        log.warning("%s: %d repeated prompts left out", name, repeated)
    selection = PromptSet(tuple(kept.values()), name)
    if limit:
        selection = selection.limit(limit)
    if len(selection) > MAX_PROMPTS:
        raise InputError(
            input_name,
            f"there are more than {MAX_PROMPTS:,} prompts ({len(selection):,})",
            f"Set limit to {MAX_PROMPTS:,} or less: it draws so many at random. Or use fewer.",
        )
    return selection


def _comparable(text: str) -> str:
    """Return a prompt without what distinguishes it from another for no reader: kinds of spaces."""
    return " ".join(text.replace("\u200b", "").replace("\ufeff", "").split())
