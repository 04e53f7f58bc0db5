"""Reads a workflow file, in either of ComfyUI's two formats, into one graph.

A canvas file (Save, Export) lists nodes with the values of their widgets by position, and links; an API
file (Export (API)) has every input by name. What the canvas alone knows (muted and bypassed nodes,
Reroute, Primitive, notes) is worked out here the way ComfyUI's front end does before it queues.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """A value that comes from the ``slot``-th output of another node."""

    node_id: str
    slot: int


@dataclass(frozen=True)
class Constant:
    """The value of a Primitive, which exists on the canvas only."""

    value: Any


@dataclass
class Node:
    """One node that takes part: ``inputs`` has flat names ("algorithm.beta") and values or links."""

    id: str
    class_type: str
    title: str
    inputs: dict[str, Any]

    @property
    def label(self) -> str:
        return f"{self.title} (node {self.id})"


Graph = dict[str, Node]


def read(path: Path | str, stages: Mapping[str, Stage]) -> Graph:
    """The graph of a workflow file; the stages tell which widgets a node has.

    Raises:
        InputError: there is no such file, or it is not a workflow.
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
            "Give a .json file that ComfyUI has saved.",
        ) from error
    return parse(document, stages)


def parse(document: Any, stages: Mapping[str, Stage]) -> Graph:
    """The graph of what a workflow file holds, once read from JSON."""
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
        'Expected is an object with "nodes" and "links" (Export), or one of nodes with "class_type" '
        "(Export (API)).",
    )


def _title(given: Any, class_type: str, stages: Mapping[str, Stage]) -> str:
    if isinstance(given, str) and given.strip():
        return given
    return stages[class_type].title if class_type in stages else class_type


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


def _api_value(value: Any, where: str) -> Any:
    if isinstance(value, dict) and "__value__" in value:
        return value["__value__"]
    if not isinstance(value, list):
        return value
    if len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return Link(value[0], value[1])
    raise InputError(
        "workflow",
        f"{where} is the list {value!r}",
        'A list has to be a link: ["node id", output].',
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
                f"node {node_id} is the subgraph {subgraphs[class_type]!r}, which is not unfolded here",
                "In ComfyUI, unpack the subgraph, or save with Export (API).",
            )
        stage = stages.get(class_type)
        node = Node(node_id, class_type, _title(raw.get("title"), class_type, stages), {})
        node.inputs.update(_widget_values(raw, stage, node.label) if stage else {})
        for slot in raw["inputs"]:
            found = canvas.source(raw, slot)
            if found is not None:
                node.inputs[slot["name"]] = found.value if isinstance(found, Constant) else found
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
    """Link id -> node and output that it starts from. Links are arrays or, in newer files, objects."""
    links = {}
    for raw in raw_links or []:
        try:
            if isinstance(raw, dict):
                raw = (raw["id"], raw["origin_id"], raw["origin_slot"])
            links[raw[0]] = (str(raw[1]), int(raw[2]))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError("workflow", f"the link {raw!r} is broken", _SAVE_AGAIN) from error
    return links


def _subgraphs(definitions: Any) -> dict[str, str]:
    listed = definitions.get("subgraphs") if isinstance(definitions, dict) else None
    return {s["id"]: str(s.get("name")) for s in listed or () if isinstance(s, dict) and "id" in s}


def _widget_values(raw: dict[str, Any], stage: Stage, label: str) -> dict[str, Any]:
    """Values of a node's widgets by name.

    Names come from the stage, not from the file's input slots: an exported file has no slots for
    widgets without a link, and those of a choice can stand before the choice itself.
    """
    values, named = raw.get("widgets_values"), raw.get("widgets_values_named")
    found: dict[str, Any] = {}
    if isinstance(values, dict):
        named = values
    elif isinstance(values, list):
        for with_controls in (False, True):
            found, fits = _by_position(stage.inputs, values, with_controls)
            if fits:
                return found
    if isinstance(named, dict):
        found = {}
        for key, item in active(stage.inputs, found):
            if item.type in WIDGETS and key in named:
                found[key] = named[key]
    elif found:
        log.warning("%s: was saved with other inputs than it has now; look at its values", label)
    return found


def _by_position(
    declared: Sequence[Input], values: list[Any], with_controls: bool
) -> tuple[dict[str, Any], bool]:
    """Values by name, and whether there was one for each widget and none left over.

    After a seed ComfyUI may save one value more: what happens to it after each run.
    """
    found: dict[str, Any] = {}
    position = 0
    for key, item in active(declared, found):
        if item.type not in WIDGETS:
            continue
        if position >= len(values):
            return found, False
        found[key] = values[position]
        position += 1
        following = values[position] if position < len(values) else None
        if with_controls and item.type == "INT" and isinstance(following, str):
            position += following in CONTROLS
    return found, all(value is None for value in values[position:])


@dataclass(frozen=True)
class _Canvas:
    """Follows links to where a value really comes from."""

    nodes: dict[str, dict[str, Any]]
    links: dict[Any, tuple[str, int]]

    def source(
        self,
        node: dict[str, Any],
        slot: dict[str, Any],
        wanted: str = "",
        seen: tuple[Any, ...] = (),
    ) -> Link | Constant | None:
        """What feeds an input slot: a node that runs, a Primitive's value, or nothing."""
        link_id = slot.get("link")
        if link_id is None:
            return None
        where = f"{slot['name'] or 'the input'} of {node['type']} (node {node['id']})"
        if link_id in seen:
            raise InputError("workflow", f"{where} is fed by itself", "Cut the circle of links.")
        origin_id, index = self.links.get(link_id, ("", 0))
        origin = self.nodes.get(origin_id)
        if origin is None:
            gone = f"link {link_id}" if link_id not in self.links else f"node {origin_id}"
            raise InputError("workflow", f"{where} needs {gone}, which is not there", _SAVE_AGAIN)
        seen = (*seen, link_id)
        wanted = wanted or str(slot.get("type", "*"))
        kind = origin["type"]
        if origin.get("mode") == MUTED or kind in NOTES:
            return None
        if origin.get("mode") == BYPASSED:
            passed = _bypass(origin, index, wanted)
            return None if passed is None else self.source(origin, passed, "", seen)
        if kind == "Reroute":
            inputs = origin["inputs"]
            return self.source(origin, inputs[0], wanted, seen) if inputs else None
        if kind == "PrimitiveNode":
            values = origin.get("widgets_values")
            return Constant(values[0]) if isinstance(values, list) and values else None
        return Link(origin_id, index)


def _bypass(node: dict[str, Any], index: int, wanted: str) -> dict[str, Any] | None:
    """The input that a bypassed node passes on at this output: same place first, then same type."""
    inputs, outputs = node["inputs"], node["outputs"]
    same_place = inputs[index] if index < len(inputs) else None
    if wanted in ("*", ""):
        return same_place or (inputs[0] if inputs else None)
    given = str(outputs[index].get("type")) if index < len(outputs) else "*"

    def fits(slot: dict[str, Any]) -> bool:
        kind = str(slot.get("type"))
        return compatible(kind, given) and compatible(kind, wanted)

    if same_place is not None and fits(same_place):
        return same_place
    exact = (slot for slot in inputs if slot.get("type") == wanted)
    return next(exact, None) or next((slot for slot in inputs if fits(slot)), None)


def compatible(given: str, wanted: str) -> bool:
    """Whether ComfyUI lets these types connect: one in common, or any ("*")."""
    one, other = ({t.strip() for t in kind.split(",")} for kind in (given, wanted))
    return bool(one & other) or "*" in one | other
