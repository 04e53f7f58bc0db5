"""The ComfyUI node of a stage: its schema from the declaration, its work from the function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, ClassVar

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..gdro_comfy.errors import InputError, WaitingForUser
from ..gdro_comfy.stages import STAGES
from ..gdro_comfy.stages.aliases import ALIASES
from ..gdro_comfy.stages.base import MISSING, Input, Output, Stage
from ..gdro_comfy.stages.inputs import unlist
from . import fingerprints, queued
from .host import ComfyHost, model_files

PANELS = frozenset(
    {
        "GDRO_GroupRollout",
        "GDRO_ImportGroups",
        "GDRO_ScoreRollout",
        "GDRO_RatingReward",
        "GDRO_TrainLoRA",
        "GDRO_EvaluateAlignment",
        "GDRO_CompareRollouts",
    }
)
"""Nodes with a panel of ours, which replaces the canvas's own previews; ``web/gdro.js`` has the same."""

_REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"
_WIDGETS: dict[str, Any] = {
    "BOOLEAN": io.Boolean,
    "COMBO": io.Combo,
    "FLOAT": io.Float,
    "INT": io.Int,
    "STRING": io.String,
}


class StageNode(io.ComfyNode):
    """Base class of the pack's nodes, which runs the stage with the node's id."""

    NODE_ID: ClassVar[str]

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(cls.NODE_ID)

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> list[Any]:
        return fingerprints.fingerprint(STAGES[cls.NODE_ID], inputs)

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        stage, has_panel = STAGES[cls.NODE_ID], cls.NODE_ID in PANELS
        workflow = _workflow(cls.hidden.extra_pnginfo)
        with ComfyHost(cls.hidden.unique_id, has_panel, workflow) as host:
            return _execute(cls, stage, host, has_panel, inputs)


def _execute(
    cls: type[StageNode], stage: Stage, host: ComfyHost, has_panel: bool, inputs: dict[str, Any]
) -> io.NodeOutput:
    host.clear_error()
    if has_panel and (location := _input_location(stage, inputs)):
        # The panel shows these groups while the node works on them.
        host.emit("location", location)
    try:
        outputs = _run(stage, host, inputs)
    except WaitingForUser as waiting:
        # The nodes after this one do not run until the user has done their part.
        host.show_text(waiting.note)
        shown = {**ui.PreviewText(waiting.note).as_dict(), "gdro": [host.location]}
        return io.NodeOutput(*(ExecutionBlocker(None) for _ in stage.outputs), ui=shown)
    except Exception as error:
        host.show_error(error)
        raise
    fingerprints.record(stage, outputs)
    shown: dict[str, Any] = {}
    for declared, value in zip(stage.outputs, outputs, strict=True):
        if declared.type == "GDRO_ROLLOUT":
            host.location.update(_location(value))
        if declared.name == stage.preview and not has_panel:
            shown.update(ui.PreviewImage(value, cls=cls).as_dict())
        elif declared.name in ("summary", "table", "path"):
            shown.update(ui.PreviewText(str(value)).as_dict())
            is_path = declared.name == "path"
            host.show_text(_shown_path(value, host.lora_dir) if is_path else str(value))
    if has_panel:
        shown["gdro"] = [host.location]
    return io.NodeOutput(*outputs, ui=shown or None)


def _shown_path(path: str, lora_dir: Path) -> str:
    """Return a path as ComfyUI's lists have it: below the folder of LoRAs, without what is above."""
    try:
        return Path(path).relative_to(lora_dir).as_posix()
    except ValueError:
        return Path(path).name


def _location(rollout: Any) -> dict[str, str]:
    """Return where a rollout's panel finds it."""
    scores = {"scores": rollout.score_file} if rollout.score_file else {}
    return {"run": rollout.run.folder.name, **scores}


def _input_location(stage: Stage, inputs: dict[str, Any]) -> dict[str, str]:
    """Return the run of the rollout that a stage works on, and of the second one that it compares."""
    declared = [item.name for item in stage.inputs if item.type == "GDRO_ROLLOUT"]
    rollouts = [inputs[name] for name in declared if inputs.get(name) is not None]
    if not rollouts:
        return {}
    first = _location(rollouts[0])
    if len(rollouts) == 1:
        return {"run": first["run"]}  # which scores it shows is what this node is about to make
    second = _location(rollouts[1])
    return {**first, **{f"other{'_scores' if k == 'scores' else ''}": v for k, v in second.items()}}


def node_class(node_id: str) -> type[StageNode]:
    """Make the node class of the stage with this id."""
    name = f"{node_id.removeprefix('GDRO_')}Node"
    members: dict[str, Any] = {"NODE_ID": node_id, "__module__": __name__}
    if STAGES[node_id].check is not None:
        members["validate_inputs"] = classmethod(queued.validator(STAGES[node_id]))
    return type(name, (StageNode,), members)


def schema(node_id: str) -> io.Schema:
    """Return the V3 schema of the stage with this id."""
    stage = STAGES[node_id]
    return io.Schema(
        node_id=node_id,
        display_name=stage.display_name,
        category=f"GDRO/{stage.category}",
        description=stage.description,
        search_aliases=list(
            dict.fromkeys(["gdro", *stage.search_aliases, *ALIASES.get(node_id, ())])
        ),
        inputs=[_input(declared) for declared in stage.inputs],
        outputs=[_output(declared) for declared in stage.outputs],
        is_output_node=stage.is_output_node,
        is_input_list=stage.takes_lists,
        hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
    )


def _workflow(extra: Any) -> dict[str, Any] | None:
    """Return the canvas's workflow from the metadata that ComfyUI writes into images."""
    workflow = extra.get("workflow") if isinstance(extra, dict) else None
    return workflow if isinstance(workflow, dict) else None


def _run(stage: Stage, host: ComfyHost, inputs: dict[str, Any]) -> tuple[Any, ...]:
    if stage.takes_lists:
        inputs = unlist(stage.inputs, inputs)
    for declared in stage.inputs:
        # ComfyUI leaves out an input whose choice it does not know.
        required = declared.type == "DYNAMICCOMBO" and not declared.optional
        if required and not inputs.get(declared.name):
            choices = ", ".join(declared.choices or ())
            raise InputError(declared.name, "this choice is unknown", f"Choose one of: {choices}.")
    defaults = {declared.name: _default(declared) for declared in stage.inputs if declared.optional}
    try:
        return stage(host, **{**defaults, **inputs})
    except ImportError as error:
        raise ImportError(
            f"{error}. A library that this node needs is missing, or too old. Install it into "
            f'ComfyUI\'s Python and restart: "{sys.executable}" -m pip install -r "{_REQUIREMENTS}"'
        ) from error


def _default(declared: Input) -> Any:
    """Return the value of an optional input that the canvas leaves out."""
    if declared.default is MISSING:
        return None
    if declared.type != "DYNAMICCOMBO":
        return declared.default
    inner = (declared.choices or {}).get(declared.default, ())
    return {declared.name: declared.default, **{item.name: _default(item) for item in inner}}


def _options(declared: Input) -> list[str]:
    names = sorted(model_files(declared.files)) if declared.files else []
    names += declared.listing() if declared.listing else []
    return [*(declared.options or ()), *names] or [""]


def _input(declared: Input) -> Any:
    arguments: dict[str, Any] = {
        "id": declared.name,
        "tooltip": declared.tooltip or None,
        "optional": declared.optional,
    }
    if declared.type == "DYNAMICCOMBO":
        choices = [
            io.DynamicCombo.Option(key, [_input(inner) for inner in inputs])
            for key, inputs in (declared.choices or {}).items()
        ]
        further = {**(declared.canvas or {}), **({"advanced": True} if declared.advanced else {})}
        return io.DynamicCombo.Input(options=choices, extra_dict=further, **arguments)
    if declared.template is not None:
        template = io.Autogrow.TemplatePrefix(
            input=_input(declared.template),
            prefix=declared.template.name,
            min=int(declared.min or 0),
            max=int(declared.max or 100),
        )
        return io.Autogrow.Input(template=template, **arguments)
    if declared.type not in _WIDGETS:
        return io.Custom(declared.type).Input(**arguments)
    widget = {
        "default": None if declared.default is MISSING else declared.default,
        "advanced": declared.advanced or None,
        "min": declared.min,
        "max": declared.max,
        "step": declared.step,
        "options": _options(declared) if declared.type == "COMBO" else None,
        "multiline": declared.multiline or None,
        "control_after_generate": False if declared.name == "seed" else None,
    }
    settings = {key: value for key, value in widget.items() if value is not None}
    return _WIDGETS[declared.type].Input(**arguments, **settings)


def _output(declared: Output) -> Any:
    return io.Custom(declared.type).Output(
        declared.name,
        display_name=declared.name,
        tooltip=declared.tooltip or None,
        is_output_list=declared.is_list,
    )
