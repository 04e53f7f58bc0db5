"""Check a graph when it is queued, as ComfyUI validates each of its nodes.

ComfyUI tells a node's ``validate_inputs`` the values on that node only. The graph comes from ComfyUI's hook
for what is posted to ``/prompt``, in the same task, just before.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

import comfy.model_management
from server import PromptServer

from ..gdro_comfy.errors import InputError
from ..gdro_comfy.stages import STAGES, before_work
from ..gdro_comfy.stages.base import Stage
from ..gdro_comfy.stages.inputs import active
from .host import model_files

if TYPE_CHECKING:
    import torch

_graph: ContextVar[Mapping[str, before_work.Step] | None] = ContextVar("gdro_graph", default=None)


class _Machine:
    def model_files(self, kind: str) -> dict[str, Path]:
        return model_files(kind)

    def device(self) -> torch.device:
        return comfy.model_management.get_torch_device()


def remember(posted: dict[str, Any]) -> dict[str, Any]:
    """Keep the graph of a request to ``/prompt`` for the checks that follow; the request stays as it is."""
    prompt = posted.get("prompt")
    _graph.set(steps(prompt) if isinstance(prompt, Mapping) else None)
    return posted


def steps(prompt: Mapping[str, Any]) -> dict[str, before_work.Step]:
    """Return a graph in ComfyUI's API format as the checks read it; what is no node is left out."""
    found: dict[str, before_work.Step] = {}
    for node_id, node in prompt.items():
        values = node.get("inputs") if isinstance(node, Mapping) else None
        if not isinstance(values, Mapping):
            continue
        links = {name: str(value[0]) for name, value in values.items() if _is_link(value)}
        own = {name: value for name, value in values.items() if name not in links}
        found[str(node_id)] = before_work.Step(STAGES.get(str(node.get("class_type"))), own, links)
    return found


def _is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _said_by_comfyui(step: before_work.Step, error: InputError) -> bool:
    """Whether it is about a file that is not in the list of its input, which ComfyUI refuses by itself."""
    if step.stage is None:
        return False
    return any(
        item.files is not None
        and item.name == error.input_name
        and step.values.get(name) not in model_files(item.files)
        for name, item in active(step.stage.inputs, step.values)
    )


def validator(stage: Stage) -> Any:
    """Return a method that ComfyUI calls when a graph is queued, before any of its nodes runs.

    ComfyUI calls it only if its signature names an input, whose value it then does not check itself, and at
    which it shows what is refused; the text names the input that is meant.
    """
    first = stage.inputs[0].name

    def validate_inputs(cls: Any, **inputs: Any) -> bool | str:
        graph = _graph.get()
        if graph is None or cls.hidden is None:
            return True
        node_id = str(cls.hidden.unique_id)
        try:
            before_work.check(graph, node_id, _Machine())
        except InputError as error:
            return _said_by_comfyui(graph[node_id], error) or str(error)
        return True

    parameters = [
        inspect.Parameter("cls", inspect.Parameter.POSITIONAL_OR_KEYWORD),
        inspect.Parameter(first, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None),
    ]
    validate_inputs.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return validate_inputs


_server = getattr(PromptServer, "instance", None)
if _server is not None:
    _server.add_on_prompt_handler(remember)
