"""Write the help pages and the English locale from the declarations of the stages.

    python tools/make_docs.py

A page is ``web/docs/<node id>.md``: what the node is for, tables of its inputs and outputs, and typical
mistakes; what is written by hand stands in ``help_text.py`` and the like. ``locales/en/nodeDefs.json`` has the words of
the declarations for ComfyUI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import help_graph_rewards
import help_import
import help_judges
import help_models
from help_text import ADVICE, MISTAKES, TYPICAL

from gdro_comfy.stage import MISSING, Input, Stage
from gdro_comfy.stages import STAGES

for topic in (help_judges, help_graph_rewards, help_import, help_models):
    ADVICE.update(topic.ADVICE)
    TYPICAL.update(topic.TYPICAL)
    MISTAKES.update(topic.MISTAKES)

ROOT = Path(__file__).parent.parent

WIDGETS = {"STRING": "text", "BOOLEAN": "on or off", "INT": "a whole number", "FLOAT": "a number"}


def flat(
    declared: tuple[Input, ...], prefix: str = "", choice: str = ""
) -> Iterator[tuple[str, Input, str]]:
    """Every input with its full name and the choice that it belongs to."""
    for item in declared:
        yield prefix + item.name, item, choice
        for key, inner in (item.choices or {}).items():
            yield from flat(inner, f"{prefix}{item.name}.", key)


def _values(item: Input, typical: str) -> str:
    """What people set, then in brackets what is allowed."""
    if item.choices:
        allowed = [", ".join(f"`{key}`" for key in item.choices)]
    elif item.options:
        allowed = [", ".join(f"`{option}`" for option in item.options)]
        allowed += ["or a file from the list"] if item.files else []
    elif item.minimum is not None and item.maximum is not None:
        # A seed goes up to 2 ** 53, which says nothing to a creator.
        huge = item.maximum >= 2**53
        allowed = ["any whole number" if huge else f"{item.minimum:g} to {item.maximum:g}"]
    elif item.files or item.listing:
        allowed = ["a file from the list" if item.files else "a name from the list"]
    else:
        allowed = [WIDGETS.get(item.type, f"a connection ({item.type})")]
    if item.optional:
        allowed.append("may be left out")
    if item.default is not MISSING and item.default != "":
        shown = ("on" if item.default else "off") if item.type == "BOOLEAN" else item.default
        allowed.append(f"default `{shown}`")
    words = "; ".join(allowed)
    return f"{typical} ({words})" if typical else words


def page(node_id: str, stage: Stage) -> str:
    """The help page of a node."""
    typical = TYPICAL.get(node_id, {})
    lines = [
        f"# {stage.title}",
        "",
        stage.description,
        "",
        ADVICE[node_id],
        "",
        "| Input | What it does | Typical values |",
        "|---|---|---|",
    ]
    for name, item, choice in flat(stage.inputs):
        only = f" (with *{choice}*)" if choice else ""
        lines.append(
            f"| `{name}`{only} | {item.tooltip} | {_values(item, typical.get(name, ''))} |"
        )
    lines += ["", "| Output | What it is |", "|---|---|"]
    lines += [f"| `{output.name}` | {output.tooltip} |" for output in stage.outputs]
    lines += ["", "## Typical mistakes", "", "| What you see | What to do |", "|---|---|"]
    lines += [f"| {seen} | {remedy} |" for seen, remedy in MISTAKES[node_id]]
    lines.append("")
    return "\n".join(lines)


def locale() -> dict:
    """``nodeDefs.json``: dots of ids become underscores, as ComfyUI looks them up."""
    return {
        node_id: {
            "display_name": stage.title,
            "description": stage.description,
            "inputs": _input_words(stage),
            "outputs": {
                str(i): {"name": output.name, "tooltip": output.tooltip}
                for i, output in enumerate(stage.outputs)
            },
        }
        for node_id, stage in STAGES.items()
    }


def _input_words(stage: Stage) -> dict[str, dict[str, str]]:
    """Name and tooltip of every input. Choices that share an input's name share its words here."""
    words: dict[str, dict[str, str]] = {}
    said: dict[str, dict[str, str]] = {}
    for name, item, choice in flat(stage.inputs):
        key = name.replace(".", "_")
        said.setdefault(key, {}).setdefault(item.tooltip, choice)
        words[key] = {"name": item.label or item.name, "tooltip": item.tooltip}
    for key, tooltips in said.items():
        if len(tooltips) > 1:
            parts = [f"{choice}: {tooltip}" for tooltip, choice in tooltips.items()]
            words[key]["tooltip"] = "\n".join(parts)
    return words


def files() -> dict[Path, str]:
    """All generated files and what they should hold."""
    pages = {ROOT / "web" / "docs" / f"{i}.md": page(i, stage) for i, stage in STAGES.items()}
    words = json.dumps(locale(), indent=2, ensure_ascii=False) + "\n"
    return {**pages, ROOT / "locales" / "en" / "nodeDefs.json": words}


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
