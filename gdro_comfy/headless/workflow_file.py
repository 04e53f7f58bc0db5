"""Read a workflow file, in either of ComfyUI's two formats, into a graph.

A file in UI format (Save, Export) has links, and nodes with the values of their widgets by position. A
file in API format (Export (API)) has every input by name. What exists only on the canvas (muted and
bypassed nodes, Reroute, Primitive, notes) is resolved as ComfyUI's front end does before it queues.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.quotes import excerpt
from ..errors import InputError
from ..stages.base import Input, Stage
from ..stages.inputs import WIDGETS, active

log = logging.getLogger(__name__)

MUTED, BYPASSED = 2, 4
NOTES = frozenset({"Note", "MarkdownNote"})
VIRTUAL = NOTES | {"Reroute", "PrimitiveNode"}
CONTROLS = frozenset({"fixed", "increment", "increment-wrap", "decrement", "randomize"})

_SAVE_AGAIN = "Open it in ComfyUI and save it again."


@dataclass(frozen=True)
class Link:
    """A value from an output of another node; ``slot`` is the index of the output."""

    node_id: str
    slot: int


@dataclass(frozen=True)
class Constant:
    """The value of a Primitive, a node that exists only on the canvas."""

    value: Any


@dataclass
class Node:
    """A node of the graph; ``inputs`` maps flat names ("algorithm.beta") to values or links."""

    id: str
    class_type: str
    title: str
    inputs: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.title[:80]} (node {self.id[:40]})"


Graph = dict[str, Node]


def read(path: Path | str, stages: Mapping[str, Stage]) -> Graph:
    """Read a workflow file.

    Args:
        stages: by node type; they tell which widgets a node has.

    Raises:
        InputError: the file cannot be read, or is not a workflow.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise InputError(
            "workflow", f"{path} cannot be read: {reason}", "Give the path of a workflow file."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            "workflow",
            f"{path} is not JSON ({str(error)[:80]})",
            "Give a .json file saved by ComfyUI.",
        ) from error
    return parse(document, stages)


def parse(document: Any, stages: Mapping[str, Stage]) -> Graph:
    """Return the graph of a workflow file's JSON; errors as in ``read``."""
    if isinstance(document, dict):
        if isinstance(document.get("nodes"), list):
            return _from_canvas(document, stages)
        nodes = document.get("prompt", document)
        if isinstance(nodes, dict) and any(
            isinstance(node, dict) and "class_type" in node for node in nodes.values()
        ):
            return _from_api(nodes, stages)
    raise InputError(
        "workflow",
        "the file is JSON, but not a ComfyUI workflow",
        'It has to be an object with "nodes" and "links" (Export), or one of nodes with "class_type" '
        "(Export (API)).",
    )


def _title(title: Any, class_type: str, stages: Mapping[str, Stage]) -> str:
    if isinstance(title, str) and title.strip():
        return title
    return stages[class_type].display_name if class_type in stages else class_type


def _from_api(nodes: dict[str, Any], stages: Mapping[str, Stage]) -> Graph:
    graph: Graph = {}
    for node_id, node in nodes.items():
        class_type = node.get("class_type") if isinstance(node, dict) else None
        inputs = node.get("inputs", {}) if isinstance(node, dict) else None
        if not isinstance(class_type, str) or not isinstance(inputs, dict):
            raise InputError(
                "workflow", f'node {node_id} lacks "class_type" or "inputs"', _SAVE_AGAIN
            )
        meta = node.get("_meta")
        title = _title(meta.get("title") if isinstance(meta, dict) else None, class_type, stages)
        graph[node_id] = Node(node_id, class_type, title, {})
        for name, value in inputs.items():
            graph[node_id].inputs[name] = _api_value(value, f"{graph[node_id].label}, {name}")
    return graph


def _api_value(value: Any, label: str) -> Any:
    if isinstance(value, dict) and "__value__" in value:
        return value["__value__"]
    if not isinstance(value, list):
        return value
    if len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return Link(value[0], value[1])
    raise InputError(
        "workflow",
        f"{label} is the list {excerpt(value)}",
        'A list has to be a link: ["node id", index of the output].',
    )


def _from_canvas(document: dict[str, Any], stages: Mapping[str, Stage]) -> Graph:
    canvas = _Canvas(_nodes(document["nodes"]), _links(document.get("links")))
    subgraphs = _subgraphs(document.get("definitions"))
    graph: Graph = {}
    for node_id, raw in canvas.nodes.items():
        class_type = raw["type"]
        if raw.get("mode") in (MUTED, BYPASSED) or class_type in VIRTUAL:
            continue
        if class_type in subgraphs:
            raise InputError(
                "workflow",
                f"node {node_id} is the subgraph {excerpt(subgraphs[class_type])}, which cannot be read here",
                "In ComfyUI, unpack the subgraph, or save with Export (API).",
            )
        stage = stages.get(class_type)
        node = Node(node_id, class_type, _title(raw.get("title"), class_type, stages), {})
        node.inputs.update(_widget_values(raw, stage, node.label) if stage else {})
        for slot in raw["inputs"]:
            source = canvas.source(raw, slot)
            if source is not None:
                value = source.value if isinstance(source, Constant) else source
                node.inputs[slot["name"]] = value
        graph[node_id] = node
    return graph


def _nodes(raw_nodes: list[Any]) -> dict[str, dict[str, Any]]:
    nodes = {}
    for raw in raw_nodes:
        if (
            not isinstance(raw, dict)
            or not isinstance(raw.get("id"), (int, str))
            or not isinstance(raw.get("type"), str)
        ):
            raise InputError("workflow", 'a node lacks "id" or "type"', _SAVE_AGAIN)
        slots = {side: raw.get(side) or [] for side in ("inputs", "outputs")}
        if not all(
            isinstance(slot, dict) and isinstance(slot.get("name"), str)
            for side in slots.values()
            for slot in side
        ):
            raise InputError("workflow", f"node {raw['id']} has a broken slot", _SAVE_AGAIN)
        nodes[str(raw["id"])] = {**raw, **slots}
    return nodes


def _links(raw_links: Any) -> dict[Any, tuple[str, int]]:
    """Return the node and the output that each link starts from, by link id.

    Links are arrays or, in newer files, objects.
    """
    links = {}
    if not isinstance(raw_links or [], list):
        raise InputError("workflow", f"its links are {excerpt(raw_links)}, no list", _SAVE_AGAIN)
    for raw in raw_links or []:
        try:
            if isinstance(raw, dict):
                raw = (raw["id"], raw["origin_id"], raw["origin_slot"])
            links[raw[0]] = (str(raw[1]), int(raw[2]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(
                "workflow", f"the link {excerpt(raw)} is broken", _SAVE_AGAIN
            ) from error
    return links


def _subgraphs(definitions: Any) -> dict[str, str]:
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    found = listed if isinstance(listed, list) else []
    found = [s for s in found if isinstance(s, dict) and isinstance(s.get("id"), str)]
    return {subgraph["id"]: str(subgraph.get("name")) for subgraph in found}


def _widget_values(raw: dict[str, Any], stage: Stage, label: str) -> dict[str, Any]:
    """Return the values of a node's widgets by name.

    The names come from the stage, not from the file's input slots: an exported file has no slots for
    widgets without a link, and the slots of a choice may come before the choice itself.
    """
    values, named = raw.get("widgets_values"), raw.get("widgets_values_named")
    widgets: dict[str, Any] = {}
    if isinstance(values, dict):
        named = values
    elif isinstance(values, list):
        for with_controls in (False, True):
            widgets, fits = _by_position(stage.inputs, values, with_controls)
            if fits:
                return widgets
    if isinstance(named, dict):
        widgets = {}
        for key, item in active(stage.inputs, widgets):
            if item.type in WIDGETS and key in named:
                widgets[key] = named[key]
    elif widgets:
        log.warning("%s was saved with other inputs than it has now; check its values", label)
    return widgets


def _by_position(
    declared: Sequence[Input], values: list[Any], with_controls: bool
) -> tuple[dict[str, Any], bool]:
    """Return the values by name, and whether their number is that of the widgets.

    Args:
        with_controls: ``values`` has one more after each seed, which says how it changes after a run.
    """
    widgets: dict[str, Any] = {}
    position = 0
    for key, item in active(declared, widgets):
        if item.type not in WIDGETS:
            continue
        if position >= len(values):
            return widgets, False
        widgets[key] = values[position]
        position += 1
        following = values[position] if position < len(values) else None
        if with_controls and item.type == "INT" and isinstance(following, str):
            position += following in CONTROLS
    return widgets, all(value is None for value in values[position:])


@dataclass(frozen=True)
class _Canvas:
    """The nodes and links of a UI-format file, to follow a link to where its value comes from."""

    nodes: dict[str, dict[str, Any]]
    links: dict[Any, tuple[str, int]]

    def source(
        self,
        node: dict[str, Any],
        slot: dict[str, Any],
        target_type: str = "",
        visited: tuple[Any, ...] = (),
    ) -> Link | Constant | None:
        """Return what feeds an input slot: a node that runs, a Primitive's value, or None.

        Args:
            target_type: type of the input that the value is for; empty is that of ``slot``.
            visited: ids of the links that led here.
        """
        link_id = slot.get("link")
        if link_id is None:
            return None
        label = f"{slot['name'] or 'the input'} of {node['type']} (node {node['id']})"
        if link_id in visited:
            raise InputError(
                "workflow", f"{label} is linked to itself", "Remove one of these links."
            )
        origin_id, index = self.links.get(link_id, ("", 0))
        origin = self.nodes.get(origin_id)
        if origin is None:
            missing = f"link {link_id}" if link_id not in self.links else f"node {origin_id}"
            raise InputError(
                "workflow", f"{label} needs {missing}, which does not exist", _SAVE_AGAIN
            )
        visited = (*visited, link_id)
        target_type = target_type or str(slot.get("type", "*"))
        kind = origin["type"]
        if origin.get("mode") == MUTED or kind in NOTES:
            return None
        if origin.get("mode") == BYPASSED:
            passed = _bypass(origin, index, target_type)
            return None if passed is None else self.source(origin, passed, "", visited)
        if kind == "Reroute":
            inputs = origin["inputs"]
            return self.source(origin, inputs[0], target_type, visited) if inputs else None
        if kind == "PrimitiveNode":
            values = origin.get("widgets_values")
            return Constant(values[0]) if isinstance(values, list) and values else None
        return Link(origin_id, index)


def _bypass(node: dict[str, Any], index: int, target_type: str) -> dict[str, Any] | None:
    """Return the input that a bypassed node passes on at an output: same index first, then same type."""
    inputs, outputs = node["inputs"], node["outputs"]
    same_index = inputs[index] if index < len(inputs) else None
    if target_type in ("*", ""):
        return same_index or (inputs[0] if inputs else None)
    output_type = str(outputs[index].get("type")) if index < len(outputs) else "*"

    def fits(slot: dict[str, Any]) -> bool:
        kind = str(slot.get("type"))
        return compatible(kind, output_type) and compatible(kind, target_type)

    if same_index is not None and fits(same_index):
        return same_index
    exact = (slot for slot in inputs if slot.get("type") == target_type)
    return next(exact, None) or next((slot for slot in inputs if fits(slot)), None)


def compatible(output_type: str, input_type: str) -> bool:
    """Return whether ComfyUI connects these types: they have one in common, or one is any ("*")."""
    one, other = ({t.strip() for t in kind.split(",")} for kind in (output_type, input_type))
    return bool(one & other) or "*" in one | other
