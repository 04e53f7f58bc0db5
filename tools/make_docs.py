"""Write the help pages and locales in all languages, from the declarations of the stages.

    python tools/make_docs.py             write the files
    python tools/make_docs.py --missing   list what is not translated, and what is left over

A page is ``web/docs/<node id>.md``, in other languages ``web/docs/<node id>/<language>.md``: what the node is
for, its picture (of ``make_pictures.py``), tables of its inputs and outputs, and typical mistakes; what is
written by hand stands in ``help_text.py`` and the like. ``locales/<language>/nodeDefs.json`` has the words of the
declarations for ComfyUI, ``main.json`` those of the node menu, and ``web/translations.js`` what the panels say and
the tooltips inside of choices. The translations are in ``translations/``; ``translations.py`` says how.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import help_graph_rewards
import help_import
import help_judges
import help_models
import help_training
import translations
from help_text import ADVICE, MISTAKES, TYPICAL
from translations import Words

from gdro_comfy.stages import STAGES
from gdro_comfy.stages.base import MISSING, Input, Output, Stage

for topic in (help_judges, help_graph_rewards, help_import, help_models, help_training):
    ADVICE.update(topic.ADVICE)
    TYPICAL.update(topic.TYPICAL)
    MISTAKES.update(topic.MISTAKES)

ROOT = Path(__file__).parent.parent

WIDGETS = {"STRING": "text", "BOOLEAN": "on or off", "INT": "a whole number", "FLOAT": "a number"}
# What ComfyUI's own menu has no words for.
CATEGORIES = ("groups", "rewards")


def flat(
    declared: tuple[Input, ...], prefix: str = "", choice: str = ""
) -> Iterator[tuple[str, Input, str]]:
    """Every input with its full name and the choice that it belongs to."""
    for item in declared:
        yield prefix + item.name, item, choice
        for key, inner in (item.choices or {}).items():
            yield from flat(inner, f"{prefix}{item.name}.", key)


def _values(item: Input, typical: str, say: Words) -> str:
    """What people set, then in brackets what is allowed."""
    if item.choices:
        allowed = [", ".join(f"`{key}`" for key in item.choices)]
    elif item.options:
        allowed = [", ".join(f"`{option}`" for option in item.options)]
        allowed += [say("page", "or a file from the list")] if item.files else []
    elif item.minimum is not None and item.maximum is not None:
        # A seed goes up to 2 ** 53, which says nothing to a creator.
        huge = item.maximum >= 2**53
        span = say("page", "any whole number" if huge else "{low} to {high}")
        allowed = [span.format(low=f"{item.minimum:g}", high=f"{item.maximum:g}")]
    elif item.files or item.listing:
        allowed = [say("page", "a file from the list" if item.files else "a name from the list")]
    elif item.type in WIDGETS:
        allowed = [say("page", WIDGETS[item.type])]
    else:
        allowed = [say("page", "a connection ({type})").format(type=item.type)]
    if item.optional:
        allowed.append(say("page", "may be left out"))
    if item.default is not MISSING and item.default != "":
        switch = "on" if item.default is True else "off"
        shown = say("page", switch) if item.type == "BOOLEAN" else item.default
        allowed.append(say("page", "default {value}").format(value=f"`{shown}`"))
    words = "; ".join(allowed)
    return (
        say("page", "{typical} ({allowed})").format(typical=typical, allowed=words)
        if typical
        else words
    )


def _named(item: Input | Output, full: str, node_id: str, say: Words) -> str:
    """The id of an input or output, and what the node calls it where that is something else."""
    label = say(node_id, getattr(item, "label", "") or item.name)
    return f"`{full}`" if say.language == "en" or label == item.name else f"`{full}` {label}"


def page(node_id: str, stage: Stage, say: Words) -> str:
    """The help page of a node."""
    typical = TYPICAL.get(node_id, {})
    title = say(node_id, stage.title)

    def head(*columns: str) -> list[str]:
        names = " | ".join(say("page", column) for column in columns)
        return ["", f"| {names} |", "|" + "---|" * len(columns)]

    lines = [
        f"# {title}",
        "",
        say(node_id, stage.description),
        "",
        # ComfyUI looks for pictures below web/docs, whatever the language of the page.
        f"![{title}](images/{node_id}.png)",
        "",
        say.prose(node_id, ADVICE[node_id]),
        *head("Input", "What it does", "Typical values"),
    ]
    for name, item, choice in flat(stage.inputs):
        only = say("page", " (with *{choice}*)").format(choice=choice) if choice else ""
        values = _values(item, say(node_id, typical.get(name, "")), say)
        shown = _named(item, name, node_id, say)
        lines.append(f"| {shown}{only} | {say(node_id, item.tooltip)} | {values} |")
    lines += head("Output", "What it is")
    for output in stage.outputs:
        shown = _named(output, output.name, node_id, say)
        lines.append(f"| {shown} | {say(node_id, output.tooltip)} |")
    lines += ["", f"## {say('page', 'Typical mistakes')}", *head("What you see", "What to do")]
    lines += [f"| {say(node_id, seen)} | {say(node_id, do)} |" for seen, do in MISTAKES[node_id]]
    lines.append("")
    return "\n".join(lines)


def locale(say: Words) -> dict:
    """``nodeDefs.json``: dots of ids become underscores, as ComfyUI looks them up."""
    return {
        node_id: {
            "display_name": say(node_id, stage.title),
            "description": say(node_id, stage.description),
            "inputs": _input_words(node_id, stage, say),
            "outputs": {
                str(i): {
                    "name": say(node_id, output.name),
                    "tooltip": say(node_id, output.tooltip),
                }
                for i, output in enumerate(stage.outputs)
            },
        }
        for node_id, stage in STAGES.items()
    }


def _input_words(node_id: str, stage: Stage, say: Words) -> dict[str, dict[str, str]]:
    """Name and tooltip of every input. Choices that share an input's name share its words here."""
    words: dict[str, dict[str, str]] = {}
    said: dict[str, dict[str, str]] = {}
    for name, item, choice in flat(stage.inputs):
        key = name.replace(".", "_")
        tooltip = say(node_id, item.tooltip)
        said.setdefault(key, {}).setdefault(tooltip, choice)
        words[key] = {"name": say(node_id, item.label or item.name), "tooltip": tooltip}
    for key, tooltips in said.items():
        if len(tooltips) > 1:
            parts = [f"{choice}: {tooltip}" for tooltip, choice in tooltips.items()]
            words[key]["tooltip"] = "\n".join(parts)
    return words


def panel_texts() -> list[str]:
    """The texts that the panels give to ``t`` (web/words.js)."""
    scripts = sorted((ROOT / "web").glob("*.js"))
    return [
        json.loads(text)
        for script in scripts
        for text in re.findall(r'\bt\(\s*("(?:[^"\\]|\\.)*")', script.read_text(encoding="utf-8"))
    ]


def _script(words: dict[str, Words]) -> str:
    """``web/translations.js``: the panels' texts, and the tooltips inside of choices by node."""
    others = {name: say for name, say in words.items() if name != "en"}
    panels = {
        name: {one: say("panels", one) for one in panel_texts()} for name, say in others.items()
    }
    inner = {
        node_id: [item.tooltip for name, item, _ in flat(stage.inputs) if "." in name]
        for node_id, stage in STAGES.items()
    }
    tooltips = {
        name: {i: {one: say(i, one) for one in texts} for i, texts in inner.items() if texts}
        for name, say in others.items()
    }
    head = (
        "/** Translations by language, keyed by the English text; made by tools/make_docs.py. */\n"
    )
    parts = {"panels": panels, "tooltips": tooltips}
    return head + "".join(
        f"\nexport const {key} = {_json(it)[:-1]};\n" for key, it in parts.items()
    )


def _json(value: dict) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def language_files(say: Words) -> dict[Path, str]:
    """The generated files of one language and what they should hold."""
    docs, folder = ROOT / "web" / "docs", ROOT / "locales" / say.language
    place = "{}.md" if say.language == "en" else f"{{}}/{say.language}.md"
    pages = {docs / place.format(i): page(i, stage, say) for i, stage in STAGES.items()}
    words = {folder / "nodeDefs.json": _json(locale(say))}
    if say.language != "en":
        menu = {"nodeCategories": {name: say("categories", name) for name in CATEGORIES}}
        words[folder / "main.json"] = _json(menu)
    return pages | words


def all_words() -> dict[str, Words]:
    """The words of every language, English first, none asked for yet."""
    others = {name: Words(name, translations.read(name)) for name in translations.LANGUAGES}
    return {"en": Words(), **others}


def files(words: dict[str, Words] | None = None) -> dict[Path, str]:
    """All generated files and what they should hold."""
    words = words or all_words()
    made: dict[Path, str] = {}
    for say in words.values():
        made |= language_files(say)
    return made | {ROOT / "web" / "translations.js": _script(words)}


def main() -> None:
    words = all_words()
    made = files(words)
    if sys.argv[1:] == ["--missing"]:
        for language in translations.LANGUAGES:
            print(f"{language}: {translations.report(words[language]) or 'complete'}")
        return
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
