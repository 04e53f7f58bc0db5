"""Check a graph before any of its nodes runs: what a node will refuse is said before pictures are drawn.

ComfyUI asks when a graph is queued, the console when it starts. A stage's ``check`` gets its node with what
is known then: the values that are set on it, and the nodes that it is linked to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import InputError
from .base import Input, Stage
from .inputs import LATER, WIDGETS, complete, nest

if TYPE_CHECKING:
    import torch


class Machine(Protocol):
    """What a check may ask of the host: the files that can be chosen, and the device."""

    def model_files(self, kind: str) -> dict[str, Path]: ...

    def device(self) -> torch.device: ...


@dataclass(frozen=True)
class Step:
    """A node as a graph has it.

    Args:
        stage: None for a node that is not the pack's.
        values: what is set on it, by flat name ("algorithm.beta").
        links: the id of the node that is linked to an input, by flat name.
    """

    stage: Stage | None
    values: Mapping[str, Any]
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """A node of the pack before it has run.

    Args:
        id: of the node, in the graph.
        values: its inputs as the stage will get them; LATER for what a link will bring, None for what is
            left out.
    """

    id: str
    stage: Stage
    values: Mapping[str, Any]
    machine: Machine
    _graph: Mapping[str, Step]

    def origin(self, name: str) -> Planned | None:
        """Return the node that is linked to an input; None if there is none of the pack's."""
        linked = self._graph[self.id].links.get(name)
        return None if linked is None else planned(self._graph, linked, self.machine)

    def known(self) -> bool:
        """Whether the value of every widget is set on the node, and comes over no link."""
        return all(_set_on_node(item, self.values.get(item.name)) for item in self.stage.inputs)


def _set_on_node(declared: Input, value: Any) -> bool:
    if declared.type == "DYNAMICCOMBO" and isinstance(value, Mapping):
        return LATER not in value.values()
    return declared.type not in WIDGETS or value is not LATER


def planned(graph: Mapping[str, Step], node_id: str, machine: Machine) -> Planned | None:
    """Return a node as its stage's check gets it; None if it is not the pack's, or a value does not fit.

    A value that does not fit by itself, as out of its range, is refused elsewhere.
    """
    try:
        return _planned(graph, node_id, machine)
    except InputError:
        return None


def _planned(graph: Mapping[str, Step], node_id: str, machine: Machine) -> Planned | None:
    step = graph.get(node_id)
    if step is None or step.stage is None:
        return None
    flat = {**step.values, **dict.fromkeys(step.links, LATER)}
    values = complete(step.stage.inputs, nest(step.stage.inputs, flat))
    return Planned(node_id, step.stage, values, machine, graph)


def check(graph: Mapping[str, Step], node_id: str, machine: Machine) -> None:
    """Raise ``InputError`` if it is already known that this node will refuse to work."""
    step = graph.get(node_id)
    if step is None or step.stage is None or step.stage.check is None:
        return
    try:
        node = _planned(graph, node_id, machine)
    except InputError as error:
        # ComfyUI checks the values of a node except that of its first input (nodes/queued.py).
        if error.input_name.partition(".")[0] == step.stage.inputs[0].name:
            raise
        return
    if node is not None:
        step.stage.check(node)


def groups_node(node: Planned, name: str = "rollout") -> Planned | None:
    """Return the node that makes the groups of an input, past those that pass them on with scores."""
    origin = node.origin(name)
    while origin is not None and "rollout" in origin.values:
        origin = origin.origin("rollout")
    return origin


def images_per_prompt(node: Planned) -> int | None:
    """Return how many images each group that a training gets will have; None if it is not known."""
    groups = groups_node(node)
    count = None if groups is None else groups.values.get("images_per_prompt")
    return count if isinstance(count, int) and count > 0 else None  # 0: as many as the smallest has


def prompts_of(node: Planned, name: str) -> Any:
    """Return the prompts that will come over an input; None if they are not known or cannot be read.

    A prompt set that cannot be read is refused on its own node.
    """
    origin = node.origin(name)
    return None if origin is None else _made(origin, "prompts", "GDRO_PROMPTS")


def reward_of(node: Planned, name: str) -> Any:
    """Return the reward that will come over an input; None if it is not known or cannot be made."""
    origin = node.origin(name)
    return None if origin is None else _made(origin, "reward", "GDRO_REWARD")


def _made(origin: Planned, name: str, kind: str) -> Any:
    """Run a stage that only puts its settings together, and so may run before the graph does."""
    outputs = [output.name for output in origin.stage.outputs if output.type == kind]
    if not origin.stage.settings_only or outputs != [name] or not may_make(origin):
        return None
    try:
        return make(origin)
    except (InputError, ImportError):
        return None


def may_make(node: Planned) -> bool:
    """Whether a node's result depends on nothing but its own settings, and downloads nothing."""
    nested = [value for value in node.values.values() if isinstance(value, Mapping)]
    every = [*node.values.values(), *(value for inner in nested for value in inner.values())]
    return LATER not in every and not any(inner.get("download") for inner in nested)


def make(node: Planned) -> Any:
    """Return the first output of a stage that only puts its settings together.

    Raises:
        InputError: a setting does not fit, or a file is missing.
    """
    run: Callable[..., tuple[Any, ...]] = node.stage.run
    return run(node.machine, **node.values)[0]


def check_setting(node: Planned) -> None:
    """Check a stage that only puts its settings together: a missing file is known before any work.

    Raises:
        InputError: a setting does not fit, or a file or a library is missing.
    """
    if may_make(node):
        made = make(node)
        if hasattr(made, "check_prompts"):
            made.check_prompts(())


def check_judges(node: Planned, prompts: Any, *names: str) -> None:
    """Check the rewards at some inputs, which are to judge pictures that are yet to be made.

    Args:
        prompts: of these pictures; None if they are not known.

    Raises:
        InputError: one cannot judge these prompts, or has numbers for pictures that exist only.
    """
    for name in names:
        check_new_images(node, name)
        reward = reward_of(node, name)
        if reward is not None and prompts is not None:
            reward.check_prompts(prompts.prompts)


def check_new_images(node: Planned, name: str) -> None:
    """Raise ``InputError`` if the reward at an input has numbers for the pictures of one rollout only."""
    origin = node.origin(name)
    if origin is None:
        return
    ends = (*origin.stage.inputs, *origin.stage.outputs)
    if any(end.type == "GDRO_ROLLOUT" for end in ends):
        raise InputError(
            name,
            f"{origin.stage.display_name} has numbers for the pictures of its own rollout only",
            "Use it to score that rollout, and another reward for rounds, validation and evaluation.",
        )


def check_scoring(node: Planned, *names: str) -> None:
    """Raise ``InputError`` if a reward at an input cannot judge the prompts of the node's rollout."""
    from ..rewards.base import judged_prompts

    groups = groups_node(node)
    prompts = None if groups is None else prompts_of(groups, "prompts")
    for name in names:
        reward = reward_of(node, name)
        if reward is not None and prompts is not None:
            judged_prompts(reward, prompts.prompts)
