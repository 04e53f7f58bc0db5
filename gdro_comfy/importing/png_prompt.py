"""Find the prompt of an image in the graph that ComfyUI stores in its PNG files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MAX_HOPS = 20
_TEXT_INPUTS = ("text", "t5xxl", "clip_l", "clip_g")
"""Inputs of ComfyUI's CLIPTextEncode nodes that hold the text."""


def positive_prompt(metadata: str) -> str:
    """Return the text of the CLIPTextEncode that leads to the samplers' positive inputs.

    Args:
        metadata: the PNG's "prompt" chunk, JSON of nodes by id.

    Raises:
        ValueError: there is no such text, or more than one; the message says why.
    """
    try:
        graph = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ValueError("its metadata is not JSON") from error
    if not isinstance(graph, dict):
        raise ValueError("its metadata is not a ComfyUI graph")
    prompts = list(dict.fromkeys(_prompt(graph, link) for link in _positive_links(graph)))
    if not prompts:
        raise ValueError("its metadata has no sampler with a positive prompt")
    if len(prompts) > 1:
        raise ValueError(f"its metadata has several prompts: {prompts[0]!r}, {prompts[1]!r}")
    return prompts[0]


def _positive_links(graph: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the links to positive inputs, and to BasicGuider, which has a single conditioning."""
    for kind, inputs in (_node(graph, key) for key in graph):
        link = inputs.get("conditioning" if kind == "BasicGuider" else "positive")
        if _is_link(link):
            yield link


def _node(graph: Mapping[str, Any], key: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the type and the inputs of a node."""
    node = graph.get(str(key))
    inputs = node.get("inputs") if isinstance(node, dict) else None
    kind = node.get("class_type") if isinstance(node, dict) else None
    return str(kind), inputs if isinstance(inputs, dict) else {}


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2


def _prompt(graph: Mapping[str, Any], link: Any) -> str:
    """Follow nodes with one conditioning input (ControlNet, FluxGuidance) back to the text."""
    kind = ""
    for _ in range(_MAX_HOPS):
        kind, inputs = _node(graph, link[0])
        if kind.startswith("CLIPTextEncode"):
            texts = [_text(graph, inputs[name], kind) for name in _TEXT_INPUTS if name in inputs]
            distinct = list(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
            if len(distinct) == 1:
                return distinct[0]
            raise ValueError(
                f"its {kind} has several texts" if distinct else "its positive prompt is empty"
            )
        links = [inputs[name] for name in ("positive", "conditioning") if name in inputs]
        if len(links) != 1 or not _is_link(links[0]):
            break
        link = links[0]
    raise ValueError(f"its positive prompt comes from a {kind}, which is not supported")


def _text(graph: Mapping[str, Any], value: Any, kind: str) -> str:
    """Return the text of an input, following links to nodes that hold nothing but a text."""
    for _ in range(_MAX_HOPS):
        if isinstance(value, str):
            return value
        if not _is_link(value):
            break
        kind, inputs = _node(graph, value[0])
        texts = [item for item in inputs.values() if isinstance(item, str) or _is_link(item)]
        if len(texts) != 1:
            break
        value = texts[0]
    raise ValueError(f"the text of its positive prompt comes from a {kind}, which is not supported")
