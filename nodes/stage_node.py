"""A ComfyUI node made of a stage: its schema from the stage's declaration, its work from its function."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from comfy_api.latest import io, ui
from comfy_execution.graph_utils import ExecutionBlocker

from ..gdro_comfy.errors import InputError, NotYet
from ..gdro_comfy.stages import STAGES
from ..gdro_comfy.stages.base import MISSING, Input, Output, Stage
from ..gdro_comfy.stages.inputs import unlist
from . import freshness
from .host import ComfyHost, model_files

PANELS = frozenset(
    {
        "GDRO_GroupRollout",
        "GDRO_ImportGroups",
        "GDRO_ScoreRollout",
        "GDRO_RatingReward",
        "GDRO_TrainLoRA",
        "GDRO_EvaluateAlignment",
    }
)
"""Nodes with a panel of ours (``web/gdro.js`` has the same names), which takes the place of the
canvas's own pictures."""

_REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"


def schema(node_id: str, category: str) -> io.Schema:
    """The V3 schema of the stage with this id."""
    stage = STAGES[node_id]
    return io.Schema(
        node_id=node_id,
        display_name=stage.title,
        category=f"GDRO/{category}",
        description=stage.description,
        search_aliases=["gdro", *stage.aliases],
        inputs=[_input(declared) for declared in stage.inputs],
        outputs=[_output(declared) for declared in stage.outputs],
        is_output_node=stage.output_node,
        is_input_list=stage.takes_lists,
        hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
    )


class StageNode(io.ComfyNode):
    """Base of the pack's nodes: runs the stage that has the node's id."""

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> list[Any]:
        return freshness.fingerprint(STAGES[cls.SCHEMA.node_id], inputs)

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        stage, panel = STAGES[cls.SCHEMA.node_id], cls.SCHEMA.node_id in PANELS
        host = ComfyHost(cls.hidden.unique_id, panel, _workflow(cls.hidden.extra_pnginfo))
        host.clear_error()
        if panel and (given := inputs.get("rollout")) is not None:
            host.shown["run"] = given.run.folder.name
        try:
            outputs = _run(stage, host, inputs)
        except NotYet as waiting:
            # What is behind this node is left out until the user has done their part.
            host.show_text(waiting.note)
            shown = {**ui.PreviewText(waiting.note).as_dict(), "gdro": [host.shown]}
            return io.NodeOutput(*(ExecutionBlocker(None) for _ in stage.outputs), ui=shown)
        except Exception as error:
            host.show_error(error)
            raise
        freshness.remember(stage, outputs)
        shown: dict[str, Any] = {}
        for declared, value in zip(stage.outputs, outputs, strict=True):
            if declared.type == "GDRO_ROLLOUT":
                host.shown["run"] = value.run.folder.name
                if value.score_file:
                    host.shown["scores"] = value.score_file
            if declared.name == stage.preview and not panel:
                shown.update(ui.PreviewImage(value, cls=cls).as_dict())
            elif declared.name in ("summary", "table", "path"):
                shown.update(ui.PreviewText(str(value)).as_dict())
                host.show_text(str(value))
        if panel:
            shown["gdro"] = [host.shown]
        return io.NodeOutput(*outputs, ui=shown or None)


def _workflow(extra: Any) -> dict[str, Any] | None:
    """The workflow on the canvas, as it is put into pictures too."""
    found = extra.get("workflow") if isinstance(extra, dict) else None
    return found if isinstance(found, dict) else None


def _run(stage: Stage, host: ComfyHost, inputs: dict[str, Any]) -> tuple[Any, ...]:
    if stage.takes_lists:
        inputs = unlist(stage.inputs, inputs)
    for declared in stage.inputs:
        # A choice that ComfyUI does not know comes as nothing.
        needed = declared.type == "DYNAMIC" and not declared.optional
        if needed and not inputs.get(declared.name):
            choices = ", ".join(declared.choices or ())
            raise InputError(declared.name, "this choice is unknown", f"Choose one of: {choices}.")
    left_out = {
        declared.name: _left_out(declared) for declared in stage.inputs if declared.optional
    }
    try:
        return stage(host, **{**left_out, **inputs})
    except ImportError as error:
        raise ImportError(
            f"{error}. A library that this node needs is missing, or too old. Install it into "
            f'ComfyUI\'s Python and restart: "{sys.executable}" -m pip install -r "{_REQUIREMENTS}"'
        ) from error


def _left_out(declared: Input) -> Any:
    """What a stage gets for an optional input that the canvas leaves out."""
    if declared.default is MISSING:
        return None
    if declared.type != "DYNAMIC":
        return declared.default
    inner = (declared.choices or {}).get(declared.default, ())
    return {declared.name: declared.default, **{item.name: _left_out(item) for item in inner}}


def _options(declared: Input) -> list[str]:
    first = list(declared.options or ())
    found = sorted(model_files(declared.files)) if declared.files else []
    found += declared.listing() if declared.listing else []
    return first + found or [""]


def _input(declared: Input) -> Any:
    common: dict[str, Any] = {
        "display_name": declared.label or None,
        "tooltip": declared.tooltip or None,
        "optional": declared.optional,
    }
    given = {} if declared.default is MISSING else {"default": declared.default}
    widget = {**common, **given, "advanced": declared.advanced or None}
    kind = declared.type
    if kind == "DYNAMIC":
        choices = [
            io.DynamicCombo.Option(key, [_input(inner) for inner in inners])
            for key, inners in (declared.choices or {}).items()
        ]
        return io.DynamicCombo.Input(declared.name, options=choices, **common)
    if kind == "GROW" and declared.grows is not None:
        template = io.Autogrow.TemplatePrefix(
            input=_input(declared.grows),
            prefix=declared.grows.name,
            min=int(declared.minimum or 0),
            max=int(declared.maximum or 100),
        )
        return io.Autogrow.Input(declared.name, template=template, **common)
    if kind == "COMBO":
        return io.Combo.Input(declared.name, options=_options(declared), **widget)
    if kind == "BOOLEAN":
        return io.Boolean.Input(declared.name, **widget)
    if kind == "STRING":
        return io.String.Input(declared.name, multiline=declared.multiline, **widget)
    if kind == "INT":
        numbers = {k: v for k, v in _numbers(declared).items() if v is not None}
        numbers = {k: int(v) for k, v in numbers.items()}
        if declared.name == "seed":
            numbers["control_after_generate"] = False
        return io.Int.Input(declared.name, **numbers, **widget)
    if kind == "FLOAT":
        return io.Float.Input(declared.name, **_numbers(declared), **widget)
    return io.Custom(kind).Input(declared.name, **common)


def _numbers(declared: Input) -> dict[str, Any]:
    return {"min": declared.minimum, "max": declared.maximum, "step": declared.step}


def _output(declared: Output) -> Any:
    return io.Custom(declared.type).Output(
        declared.name,
        display_name=declared.name,
        tooltip=declared.tooltip or None,
        is_output_list=declared.is_list,
    )
