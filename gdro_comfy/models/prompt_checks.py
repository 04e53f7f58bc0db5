"""What text encoders make of prompts: signs that they do not have, cut ends, prompts that they confuse."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..data.prompt_syntax import read_by_comfyui
from ..data.prompts import Prompt
from ..errors import InputError

log = logging.getLogger(__name__)

Reader = tuple[Any, int]
"""A tokenizer, and the most tokens that its text encoder reads, start and end included."""


def check_signs(prompts: Sequence[Prompt], tokenizer: Any) -> None:
    """Say how many prompts have signs that a tokenizer does not have, such as an emoji for T5.

    The encoder reads these as one and the same unknown sign.

    Raises:
        InputError: the tokenizer lacks a word in plain letters, as a small vocabulary does, or nothing of a
            prompt is left.
    """
    signs: dict[str, None] = {}
    affected: list[Prompt] = []
    for number, prompt in enumerate(prompts, 1):
        tokens = tokenizer(prompt.text, add_special_tokens=False, truncation=False)["input_ids"]
        if tokenizer.unk_token_id not in tokens:
            continue
        words = [word for word in prompt.text.split() if _is_unreadable(tokenizer, word)]
        plain = [word for word in words if word.isascii() and word.isalpha()]
        if plain or _is_empty(tokenizer, tokens):
            raise InputError(
                "prompts",
                f"prompt {number} ({prompt.text!r}) has text this model cannot read: "
                + ", ".join(repr(word) for word in (plain or words)[:5]),
                "Use letters, digits and punctuation that the model's tokenizer knows.",
            )
        affected.append(prompt)
        signs |= dict.fromkeys(
            sign for word in words for sign in word if _is_unreadable(tokenizer, sign)
        )
    if affected:
        log.warning(
            "%d of %d prompts have signs that %s does not have and reads as unknown (%s); the first is %r",
            len(affected), len(prompts), type(tokenizer).__name__, " ".join(list(signs)[:12]),
            affected[0].text[:80],
        )  # fmt: skip


def check_lengths(prompts: Sequence[Prompt], tokenizer: Any, limit: int) -> None:
    """Raise ``InputError`` for a prompt of more tokens than are read, start and end included."""
    for number, prompt in enumerate(prompts, 1):
        length = len(tokenizer(prompt.text, truncation=False)["input_ids"])
        if length > limit:
            raise InputError(
                "prompts",
                f"prompt {number} ({prompt.text!r}) has {length} tokens",
                f"This model reads {limit}, start and end included: shorten the prompt.",
            )


def say_which_are_alike(prompts: Sequence[Prompt], readers: Sequence[Reader]) -> None:
    """Warn of prompts that all text encoders read alike: in capitals only, cut, or of unknown signs."""
    first: dict[tuple[Any, ...], Prompt] = {}
    pairs: list[tuple[Prompt, Prompt]] = []
    for prompt in prompts:
        key = tuple(
            tuple(tokenizer(prompt.text, truncation=False)["input_ids"][: limit - 1])
            for tokenizer, limit in readers
        )
        other = first.setdefault(key, prompt)
        if other.text != prompt.text:
            pairs.append((other, prompt))
    if pairs:
        log.warning(
            "%d prompts are the same for this model as another one; the first pair is %r and %r",
            len(pairs), pairs[0][0].text[:80], pairs[0][1].text[:80],
        )  # fmt: skip


def say_what_is_literal(prompts: Sequence[Prompt]) -> None:
    """Warn of ComfyUI's syntax in prompts, which is taken literally here."""
    found = [(prompt, words) for prompt in prompts if (words := read_by_comfyui(prompt.text))]
    if found:
        prompt, words = found[0]
        log.warning(
            "%d of %d prompts have what ComfyUI's own nodes would not take literally, and this model does: "
            "%s, first in %r",
            len(found), len(prompts), words, prompt.text[:80],
        )  # fmt: skip


def _is_unreadable(tokenizer: Any, word: str) -> bool:
    """Return whether a tokenizer has no tokens for a word, or for a part of it."""
    ids = tokenizer(word, add_special_tokens=False)["input_ids"]
    return not ids or tokenizer.unk_token_id in ids


def _is_empty(tokenizer: Any, tokens: Sequence[int]) -> bool:
    """Return whether tokens are unknown signs and spaces alone."""
    texts = (str(tokenizer.decode([t])) for t in tokens if t != tokenizer.unk_token_id)
    return not any(text.strip() for text in texts)
