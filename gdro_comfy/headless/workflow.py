"""Run a workflow file without ComfyUI, by the same rules.

Only nodes that lead to an output node run, each once, under ``torch.inference_mode`` as in ComfyUI.
Everything that can be checked is checked before the first node runs.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.quotes import excerpt
from ..distributed import OtherProcessFailed, world
from ..errors import InputError
from ..progress import Cancelled
from ..stages import before_work, inputs
from ..stages.base import Input, Stage
from ..stages.inputs import LATER
from .workflow_file import Graph, Link, Node, compatible, read

if TYPE_CHECKING:
    from ..host import Host

log = logging.getLogger(__name__)


_SHARED = frozenset({"GDRO_GroupRollout", "GDRO_ScoreRollout"})
"""Nodes whose work several processes share."""
_BEFORE_GROUPS = frozenset(
    {
        *_SHARED, "GDRO_LoadBaseModel", "GDRO_PromptSet", "GDRO_OCRReward", "GDRO_CompositionReward",
        "GDRO_VLMReward", "GDRO_PairwiseReward", "GDRO_PreferenceReward", "GDRO_ImageQualityReward",
        "GDRO_SimilarityReward", "GDRO_InstalledReward", "GDRO_RatingReward", "GDRO_CombineRewards",
        "GDRO_LoadAlignedLoRA",
    }
)  # fmt: skip
"""Nodes that they may depend on there: each process runs them, and none of them writes into a run."""


class NodeError(RuntimeError):
    """A failure of a node; the message names the node, and the cause is chained."""


def all_stages() -> dict[str, Stage]:
    """Return the stages of the pack, and of ComfyUI's own nodes that can run here, by node type."""
    from ..stages import STAGES
    from .stock_nodes import STOCK

    return {**STAGES, **STOCK}


def load(path: Path | str, stages: Mapping[str, Stage] | None = None) -> Graph:
    """Read a workflow file in UI or API format; errors as in ``workflow_file.read``."""
    return read(path, stages or all_stages())


def override(graph: Graph, setting: str, stages: Mapping[str, Stage] | None = None) -> None:
    """Change one input of a graph.

    Args:
        setting: ``NODE.INPUT=VALUE``. NODE is an id, a title or a type; VALUE is read as JSON if it is
            valid JSON, else as text.

    Raises:
        InputError: there is no such node or input; the message lists those that exist.
    """
    stages = stages or all_stages()
    target, equals, text = setting.partition("=")
    # Titles and inputs ("algorithm.beta") may contain dots: the longest name of a node wins.
    cuts = [i for i, letter in enumerate(target) if letter == "."]
    if not equals or not cuts:
        raise InputError("--set", f"{excerpt(setting)} is not a setting", "Write NODE.INPUT=VALUE.")
    for cut in reversed(cuts):
        matches = _named(graph, target[:cut])
        if matches:
            name = target[cut + 1 :]
            break
    else:
        types = ", ".join(sorted({node.class_type for node in graph.values()}))
        raise InputError(
            "--set", f"no node is called {excerpt(target[: cuts[0]])}", f"There are: {types}."
        )
    if len(matches) > 1:
        labels = ", ".join(node.label for node in matches)
        raise InputError(
            "--set",
            f"{excerpt(target[:cut])} names {len(matches)} nodes: {labels}",
            "Use the id or the title.",
        )
    node = matches[0]
    known = [key for key, _ in inputs.active(stages[node.class_type].inputs, node.inputs)]
    if name not in known:
        raise InputError(
            "--set", f"{node.label} has no input {excerpt(name)}", f"It has: {', '.join(known)}."
        )
    try:
        node.inputs[name] = json.loads(text)
    except ValueError:
        node.inputs[name] = text


def _named(graph: Graph, name: str) -> list[Node]:
    if name in graph:
        return [graph[name]]
    return [n for n in graph.values() if n.title == name] or [
        n for n in graph.values() if n.class_type == name
    ]


def check(graph: Graph, stages: Mapping[str, Stage] | None = None) -> list[str]:
    """Check a graph, and return the ids of the nodes to run, each after those it depends on.

    Raises:
        InputError: it has an unknown node, a missing link, a cycle, no output node, or a value that
            does not fit.
    """
    stages = stages or all_stages()
    unknown = sorted({n.class_type for n in graph.values() if n.class_type not in stages})
    if unknown:
        raise InputError(
            "workflow",
            f"some nodes do not run here: {', '.join(kind[:80] for kind in unknown[:10])}"
            f"{f' and {len(unknown) - 10} more' if len(unknown) > 10 else ''}",
            "Without ComfyUI, only GDRO's nodes and these of ComfyUI's run: "
            f"{', '.join(sorted(k for k in stages if not k.startswith('GDRO_')))}.",
        )
    outputs = [i for i, n in graph.items() if stages[n.class_type].is_output_node]
    if not outputs:
        raise InputError(
            "workflow",
            "it has no output node",
            "Add one, such as GDRO Train LoRA.",
        )
    order: list[str] = []
    for start in outputs:
        _visit(graph, start, order, ())
    for node_id in order:
        _check_node(graph, graph[node_id], stages)
    return order


def group_nodes(graph: Graph, stages: Mapping[str, Stage] | None = None) -> list[str]:
    """Check a graph, and return the ids of those nodes that sample and score groups, with all they depend on.

    Left out are groups that depend on more than models, prompts, rewards and other groups, such as those
    sampled with a LoRA that the workflow trains.

    Raises:
        InputError: as for ``check``; or nothing is left.
    """
    check(graph, stages)
    order: list[str] = []
    for node_id, node in graph.items():
        needed: list[str] = []
        if node.class_type in _SHARED:
            _visit(graph, node_id, needed, ())
            if all(graph[i].class_type in _BEFORE_GROUPS for i in needed):
                order += [i for i in needed if i not in order]
            else:
                log.info("%s is left to the run without --groups-only", node.label)
    if not order:
        raise InputError(
            "--groups-only",
            "the workflow has no groups that can be made before everything else",
            "Run it without --groups-only, with one process.",
        )
    return order


def _visit(graph: Graph, node_id: str, order: list[str], path: tuple[str, ...]) -> None:
    if node_id in order:
        return
    if node_id in path:
        cycle = " -> ".join(graph[i].label for i in (*path[path.index(node_id) :], node_id))
        raise InputError(
            "workflow", f"the nodes form a cycle: {cycle}", "Remove one of these links."
        )
    for name, value in graph[node_id].inputs.items():
        if isinstance(value, Link):
            if value.node_id not in graph:
                raise InputError(
                    "workflow",
                    f"{name} of {graph[node_id].label} is linked to node {value.node_id}, "
                    "which does not exist",
                    "Connect it again in ComfyUI, and save.",
                )
            _visit(graph, value.node_id, order, (*path, node_id))
    order.append(node_id)


def _check_node(graph: Graph, node: Node, stages: Mapping[str, Stage]) -> None:
    stage = stages[node.class_type]
    flat: dict[str, Any] = {}
    declared: dict[str, Input] = dict(inputs.active(stage.inputs, node.inputs))
    for name, value in node.inputs.items():
        if not isinstance(value, Link):
            flat[name] = value
            continue
        flat[name] = LATER
        origin = graph[value.node_id]
        outputs = stages[origin.class_type].outputs
        if not 0 <= value.slot < len(outputs):
            raise InputError(
                name,
                f"{node.label} is linked to output {value.slot} of {origin.label}, which has "
                f"{len(outputs)} outputs",
                "Connect it again in ComfyUI, and save.",
            )
        kind = outputs[value.slot].type
        if name in declared and not compatible(kind, _wire(declared[name].type)):
            raise InputError(
                name,
                f"{node.label} is linked to a {kind} of {origin.label}",
                f"Connect an output of type {declared[name].type}.",
            )
    try:
        inputs.complete(stage.inputs, inputs.nest(stage.inputs, flat))
    except InputError as error:
        raise _at(node, error) from None


def _wire(kind: str) -> str:
    return "*" if kind in ("COMBO", "DYNAMICCOMBO") else kind


def _at(node: Node, error: InputError) -> InputError:
    return InputError(f"{node.label}, {error.input_name}", error.found, error.remedy)


def run(
    graph: Graph,
    host: Host,
    stages: Mapping[str, Stage] | None = None,
    *,
    groups_only: bool = False,
) -> dict[str, tuple[Any, ...]]:
    """Check and run a graph.

    Args:
        groups_only: run only what ``group_nodes`` returns.

    Returns:
        The outputs of each node by node id. A node that ran several times, because one of its inputs
        was a list, has a list for each output.

    Raises:
        InputError: the graph, or an input of a node, does not fit; the message names the node.
        NodeError: a node failed in another way.
    """
    import torch

    stages = stages or all_stages()
    order = group_nodes(graph, stages) if groups_only else check(graph, stages)
    _check_before_work(graph, order, host, stages)
    done: dict[str, list[list[Any]]] = {}
    with torch.inference_mode():
        for node_id in order:
            node, stage = graph[node_id], stages[graph[node_id].class_type]
            flat = {
                name: done[value.node_id][value.slot] if isinstance(value, Link) else [value]
                for name, value in node.inputs.items()
            }
            log.info("%s", node.label)
            # The main process goes first where one may download what all of them load.
            shared = node.class_type in _SHARED
            try:
                with contextlib.nullcontext() if shared else world().main_first():
                    done[node_id] = _run_on_lists(stage, host, flat)
            except InputError as error:
                raise _at(node, error) from error
            except (Cancelled, OtherProcessFailed):
                raise
            except Exception as error:
                raise NodeError(f"{node.label} failed: {error}") from error
    return {
        node_id: tuple(
            values if declared.is_list or len(values) != 1 else values[0]
            for declared, values in zip(
                stages[graph[node_id].class_type].outputs, outputs, strict=True
            )
        )
        for node_id, outputs in done.items()
    }


def planned_steps(
    graph: Graph, order: list[str], stages: Mapping[str, Stage]
) -> dict[str, before_work.Step]:
    """Return the nodes to run as their checks read them."""
    return {
        node_id: before_work.Step(
            stages[graph[node_id].class_type],
            {k: v for k, v in graph[node_id].inputs.items() if not isinstance(v, Link)},
            {k: v.node_id for k, v in graph[node_id].inputs.items() if isinstance(v, Link)},
        )
        for node_id in order
    }


def _check_before_work(
    graph: Graph, order: list[str], host: Host, stages: Mapping[str, Stage]
) -> None:
    """Ask every node what it will refuse, before any node has run."""
    steps = planned_steps(graph, order, stages)
    for node_id in order:
        try:
            before_work.check(steps, node_id, host)
        except InputError as error:
            raise _at(graph[node_id], error) from error


def _run_on_lists(stage: Stage, host: Host, flat: Mapping[str, list[Any]]) -> list[list[Any]]:
    """Run a node as ComfyUI does, where every value on a wire is a list.

    A stage that takes lists runs once. Any other runs once for each item of the longest list; shorter
    lists repeat their last item.

    Returns:
        A list for each output.
    """
    if stage.takes_lists:
        first = {name: values[0] for name, values in flat.items() if values}
        chosen = {
            name: first[name]
            for name, item in inputs.active(stage.inputs, first)
            if item.type == "DYNAMICCOMBO" and name in first
        }
        values = inputs.unlist(stage.inputs, _nested(stage, {**flat, **chosen}))
        calls = [inputs.complete(stage.inputs, values)]
    else:
        empty = [name for name, values in flat.items() if not values]
        if empty:
            raise InputError(
                empty[0], "the list is empty", "Check the output of the connected node."
            )
        calls = [
            inputs.complete(stage.inputs, _nested(stage, single))
            for index in range(max(map(len, flat.values()), default=1))
            for single in [{name: v[min(index, len(v) - 1)] for name, v in flat.items()}]
        ]
    outputs: list[list[Any]] = [[] for _ in stage.outputs]
    for arguments in calls:
        host.check_cancelled()
        for declared, values, value in zip(
            stage.outputs, outputs, stage(host, **arguments), strict=True
        ):
            if declared.is_list:
                values.extend(value)
            else:
                values.append(value)
    return outputs


def _nested(stage: Stage, flat: Mapping[str, Any]) -> dict[str, Any]:
    return inputs.nest(stage.inputs, flat)
