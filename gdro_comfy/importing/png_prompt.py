"""Find the prompt of an image in the graph that ComfyUI stores in it.

The graph is followed from the samplers whose images are saved, back to the text. A node is followed only if
it is known what it does to a text or a conditioning: no value of another node is taken for its output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..data.prompt_syntax import replaced_by_comfyui
from ..data.quotes import excerpt
from .graph_nodes import (
    CONDITIONINGS,
    ENCODERS,
    PICTURES,
    SAMPLERS,
    SYSTEM_PROMPTS,
    TEXTS,
    ZEROED,
    chosen_input,
    is_save,
    saves_nothing,
)

_MAX_HOPS = 50
_MAX_NODES = 20_000
_LOADED = re.compile(r"load.?(image|latent|video)|image.?load", re.IGNORECASE)

Graph = Mapping[str, Any]
Link = Sequence[Any]
"""The id of a node, and the number of its output."""


def positive_prompt(metadata: str) -> str:
    """Return the text that the samplers saw as their positive prompt.

    Args:
        metadata: the graph, JSON of nodes by id, as ComfyUI stores it under "prompt".

    Raises:
        ValueError: there is no such text, more than one, or a node on the way to it is not known; the
            message says which.
    """
    try:
        graph = json.loads(metadata)
    except (ValueError, RecursionError) as error:
        raise ValueError("its metadata is not JSON") from error
    if not isinstance(graph, dict) or len(graph) > _MAX_NODES:
        raise ValueError("its metadata is not a ComfyUI graph")
    found: dict[str, None] = {}
    for sampler in _samplers(graph):
        kind, inputs = _node(graph, sampler)
        links = list(_positive_links(kind, inputs))
        if links or "guider" in inputs:
            _check_drawn(graph, kind, inputs)
        for link in links:
            found[_prompt(graph, link)] = None
    prompts = list(found)
    if not prompts:
        raise ValueError("its metadata has no sampler with a positive prompt")
    if len(prompts) > 1:
        raise ValueError(
            f"its metadata has several prompts: {excerpt(prompts[0])}, {excerpt(prompts[1])}"
        )
    return prompts[0]


def _samplers(graph: Graph) -> list[str]:
    """Return the ids of the nodes that may sample, those of saved images alone if these can be told.

    A last node that is not known may save images, too.
    """
    used = {str(v[0]) for key in graph for v in _node(graph, key)[1].values() if _is_link(v)}
    kinds = {key: _node(graph, key)[0] for key in graph if key not in used}
    ends = [key for key, kind in kinds.items() if not saves_nothing(kind)]
    ids = _ancestors(graph, ends) if any(is_save(kind) for kind in kinds.values()) else None
    return [key for key in graph if ids is None or key in ids]


def _ancestors(graph: Graph, keys: Sequence[str]) -> set[str] | None:
    """Return the nodes that lead to some nodes, these included; None if a link leads nowhere."""
    seen, waiting = set(keys), list(keys)
    while waiting:
        for value in _node(graph, waiting.pop())[1].values():
            if not _is_link(value):
                continue
            key = str(value[0])
            if key not in graph:
                return None
            if key not in seen:
                seen.add(key)
                waiting.append(key)
    return seen


def _positive_links(kind: str, inputs: Mapping[str, Any]) -> Iterator[Link]:
    """Yield the links to the conditionings that a node samples with; none if it does not sample."""
    names = SAMPLERS.get(kind, ())
    if not names and kind not in CONDITIONINGS and kind not in PICTURES:
        names = ("positive",)
        if "conditioning" in inputs and {"model", "latent_image"} <= inputs.keys():
            names = ("positive", "conditioning")
    for name in names:
        if _is_link(inputs.get(name)):
            yield inputs[name]


def _node(graph: Graph, key: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the type and the inputs of a node."""
    node = graph.get(str(key))
    inputs = node.get("inputs") if isinstance(node, dict) else None
    kind = node.get("class_type") if isinstance(node, dict) else None
    return str(kind or "missing node"), inputs if isinstance(inputs, dict) else {}


def _is_link(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str | int)
        and isinstance(value[1], int)
    )


def _check_drawn(graph: Graph, kind: str, inputs: Mapping[str, Any]) -> None:
    """Refuse a sampler that starts from a picture: its prompt alone does not tell what it draws."""
    whole = _from_noise(graph, inputs)
    starts = [inputs[name] for name in ("latent_image", "latent", "samples") if name in inputs]
    pending = [link for link in starts if _is_link(link)]
    seen: set[str] = set()
    while pending:
        key = str(pending.pop()[0])
        if key in seen:
            continue
        seen.add(key)
        origin, values = _node(graph, key)
        if any(_positive_links(origin, values)) or "guider" in values:
            continue  # what another sampler has drawn: its own prompt is compared
        inpainting = "Inpaint" in origin or "NoiseMask" in origin
        if inpainting or (_LOADED.search(origin) and not whole):
            raise ValueError(
                f"its {kind} starts from a picture ({origin}), which its prompt does not describe"
            )
        pending += [value for value in values.values() if _is_link(value)]


def _from_noise(graph: Graph, inputs: Mapping[str, Any]) -> bool:
    """Return whether a sampler starts from noise alone, so that nothing of its latents is left."""
    sigmas: Any = inputs.get("sigmas")
    kind, scheduler = _node(graph, sigmas[0]) if _is_link(sigmas) else ("", {})
    return (
        inputs.get("denoise", 1) == 1
        and inputs.get("start_at_step", 0) == 0
        and scheduler.get("denoise", 1) == 1
        and not kind.startswith(("SplitSigmas", "SetFirstSigma"))
    )


def _prompt(graph: Graph, link: Link) -> str:
    """Follow a conditioning back to the text that it was encoded from."""
    kind = ""
    for _ in range(_MAX_HOPS):
        kind, inputs = _node(graph, link[0])
        if kind in PICTURES:
            raise ValueError(f"its positive prompt is mixed with a picture by a {kind}")
        if kind in SYSTEM_PROMPTS:
            raise ValueError(f"its {kind} puts a text of its own before the prompt")
        if kind in ZEROED:
            raise ValueError(f"its positive prompt is emptied by a {kind}")
        if kind in ENCODERS:
            return _encoded(graph, kind, inputs, link[1])
        follow = CONDITIONINGS.get(kind, {}).get(link[1]) or _switched(graph, kind, inputs)
        if follow is None or not _is_link(inputs.get(follow)):
            break
        link = inputs[follow]
    raise ValueError(f"its positive prompt comes from a {kind}, which is not supported")


def _encoded(graph: Graph, kind: str, inputs: Mapping[str, Any], output: int) -> str:
    """Return the one text that a node encodes."""
    names = ENCODERS[kind].get(output, ())
    texts = [_text(graph, inputs[name], kind) for name in names if name in inputs]
    distinct = list(dict.fromkeys(" ".join(text.split()) for text in texts if text.strip()))
    if not distinct:
        raise ValueError("its positive prompt is empty")
    if len(distinct) > 1:
        raise ValueError(f"its {kind} has several texts")
    replaced = replaced_by_comfyui(distinct[0])
    if replaced:
        raise ValueError(f"its prompt contains {replaced}, so it is unclear what was drawn")
    return distinct[0]


def _switched(graph: Graph, kind: str, inputs: Mapping[str, Any]) -> str | None:
    """Return the input that a switch passes on, or None if the node is no switch."""
    return chosen_input(kind, inputs, lambda value: _value(graph, value))


def _value(graph: Graph, value: Any) -> Any:
    """Return a number or a truth value of an input, also from a primitive node."""
    if _is_link(value):
        kind, inputs = _node(graph, value[0])
        return inputs.get("value") if kind in ("PrimitiveBoolean", "PrimitiveInt") else None
    return value


def _text(graph: Graph, value: Any, kind: str, hops: int = 0) -> str:
    """Return the text of an input, following links to nodes that are known to pass a text on."""
    if isinstance(value, str):
        return value
    if _is_link(value) and hops < _MAX_HOPS:
        kind, inputs = _node(graph, value[0])
        if kind == "StringConcatenate":
            parts = [inputs.get(name, "") for name in ("string_a", "string_b", "delimiter")]
            first, second, between = (_text(graph, part, kind, hops + 1) for part in parts)
            return f"{first}{between}{second}"
        name = TEXTS.get(kind) or _switched(graph, kind, inputs)
        if name is not None and name in inputs and inputs[name] != value:
            return _text(graph, inputs[name], kind, hops + 1)
    raise ValueError(f"the text of its positive prompt comes from a {kind}, which is not supported")
