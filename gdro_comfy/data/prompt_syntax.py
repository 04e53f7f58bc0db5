"""ComfyUI's syntax in prompts, which this pack takes literally.

Two programs give it a meaning. The front end replaces ``{a|b}`` by one of the choices and removes comments
before a graph runs, so CLIP Text Encode never sees them. CLIP Text Encode itself reads weights such as
``(red:1.3)`` and ``(red)``, escapes such as ``\\(``, and ``embedding:name``.
"""

from __future__ import annotations

import re

_REPLACED = (
    (re.compile(r"\{[^{}]*\|[^{}]*\}"), "a choice as {a|b}"),
    (re.compile(r"/\*[\s\S]*?\*/"), "a comment between /* and */"),
    (re.compile(r"(?<!:)//"), "a comment after //"),
)
_READ = (
    (re.compile(r"\([^()]*:\s*[-+]?\d*\.?\d+\s*\)"), "a weight as (word:1.3)"),
    (re.compile(r"\\[()]"), r"an escape as \("),
    (re.compile(r"\bembedding:\S"), "an embedding"),
    (re.compile(r"\([^()]+\)"), "words in parentheses, which are a weight there"),
)


def replaced_by_comfyui(prompt: str) -> str:
    """Return what ComfyUI's front end would have replaced in a prompt, in words; empty if nothing."""
    return next((words for pattern, words in _REPLACED if pattern.search(prompt)), "")


def read_by_comfyui(prompt: str) -> str:
    """Return what ComfyUI would not take literally in a prompt, in words; empty if nothing."""
    found = replaced_by_comfyui(prompt)
    return found or next((words for pattern, words in _READ if pattern.search(prompt)), "")
