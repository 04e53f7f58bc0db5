"""The prompt of a picture, from the graph that ComfyUI leaves in its PNG files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_HOPS = 20
_TEXTS = ("text", "t5xxl", "clip_l", "clip_g")
"""Inputs of ComfyUI's CLIPTextEncode nodes that hold the text."""


def positive_prompt(metadata: str) -> str:
    """The text of the CLIPTextEncode that leads to the positive input of the samplers.

    Args:
        metadata: the chunk "prompt" of the PNG, JSON of nodes by id.

    Raises:
        ValueError: it is not to be found, or the graph has several; says why, in words.
    """
    try:
        graph = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ValueError("its metadata is not JSON") from error
    if not isinstance(graph, dict):
        raise ValueError("its metadata is no ComfyUI graph")
    found = list(dict.fromkeys(_conditioned(graph, link) for link in _positives(graph)))
    if not found:
        raise ValueError("its metadata has no sampler with a positive prompt")
    if len(found) > 1:
        raise ValueError(f"its metadata has several prompts: {found[0]!r}, {found[1]!r}")
    return found[0]


def _positives(graph: Mapping[str, Any]) -> Iterator[Any]:
    """What is connected to a positive input, or to the guider that has only one input."""
    for kind, inputs in (_node(graph, key) for key in graph):
        link = inputs.get("conditioning" if kind == "BasicGuider" else "positive")
        if _is_link(link):
            yield link


def _node(graph: Mapping[str, Any], key: Any) -> tuple[str, Mapping[str, Any]]:
    node = graph.get(str(key))
    inputs = node.get("inputs") if isinstance(node, dict) else None
    kind = node.get("class_type") if isinstance(node, dict) else None
    return str(kind), inputs if isinstance(inputs, dict) else {}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _conditioned(graph: Mapping[str, Any], link: Any) -> str:
    """The text at the end of a chain of nodes with one conditioning each (ControlNet, FluxGuidance)."""
    kind = ""
    for _ in range(_HOPS):
        kind, inputs = _node(graph, link[0])
        if kind.startswith("CLIPTextEncode"):
            texts = [_text(graph, inputs[name], kind) for name in _TEXTS if name in inputs]
            words = list(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
            if len(words) == 1:
                return words[0]
            raise ValueError(
                f"its {kind} has different texts" if words else "its positive prompt is empty"
            )
        links = [inputs[name] for name in ("positive", "conditioning") if name in inputs]
        if len(links) != 1 or not _is_link(links[0]):
            break
        link = links[0]
    raise ValueError(f"its positive prompt comes from a {kind}, which is not understood here")


def _text(graph: Mapping[str, Any], value: Any, kind: str) -> str:
    """A text on the node itself, or of a node that holds nothing but one."""
    for _ in range(_HOPS):
        if isinstance(value, str):
            return value
        if not _is_link(value):
            break
        kind, inputs = _node(graph, value[0])
        held = [one for one in inputs.values() if isinstance(one, str) or _is_link(one)]
        if len(held) != 1:
            break
        value = held[0]
    raise ValueError(
        f"the text of its positive prompt comes from a {kind}, which is not understood"
    )
