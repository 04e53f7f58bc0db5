"""Write the help pages and locales in all languages, from the declarations of the stages.

    python tools/make_docs.py             write the files
    python tools/make_docs.py --missing   list the texts that are not translated, as JSON to fill in

A page is ``web/docs/<node id>.md``, in other languages ``web/docs/<node id>/<language>.md``: what the node is
for, its picture (from ``make_pictures.py``), tables of its inputs and outputs, and typical mistakes. The parts
that are written by hand are in ``help_text.py`` and the other ``help_*.py``. ``locales/<language>/nodeDefs.json``
has the texts of the declarations for ComfyUI, ``main.json`` those of the node menu, and ``web/translations.js``
those of the panels and the tooltips inside choices. The translations are in ``translations/``, described in
``translations.py``. A missing translation is a warning: the text stays English. A stale or unfaithful one is an
error, and the exit status is 1.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import help_graph_rewards
import help_image_rewards
import help_import
import help_judges
import help_models
import help_pairs
import help_training
import translations
from help_text import ADVICE, MISTAKES, TYPICAL
from translations import Words

from gdro_comfy.stages import STAGES
from gdro_comfy.stages.base import MISSING, Input, Output, Stage

for topic in (
    help_judges,
    help_graph_rewards,
    help_image_rewards,
    help_import,
    help_models,
    help_pairs,
    help_training,
):
    ADVICE.update(topic.ADVICE)
    TYPICAL.update(topic.TYPICAL)
    MISTAKES.update(topic.MISTAKES)

ROOT = Path(__file__).parent.parent

_log = logging.getLogger("make_docs")

WIDGETS = {"STRING": "text", "BOOLEAN": "on or off", "INT": "a whole number", "FLOAT": "a number"}
CATEGORIES = ("groups", "rewards")
"""Parts of the node menu that ComfyUI itself does not translate."""


def flat(
    declared: tuple[Input, ...], prefix: str = "", choice: str = ""
) -> Iterator[tuple[str, Input, str]]:
    """Yield every input with its full name and the choice that it belongs to."""
    for item in declared:
        yield prefix + item.name, item, choice
        for key, inner in (item.choices or {}).items():
            yield from flat(inner, f"{prefix}{item.name}.", key)


def _values(item: Input, typical: str, say: Words) -> str:
    """Describe the typical values of an input, and in brackets what is allowed."""
    if item.choices:
        allowed = [", ".join(f"`{key}`" for key in item.choices)]
    elif item.options:
        allowed = [", ".join(f"`{option}`" for option in item.options)]
        allowed += [say("page", "or a file from the list")] if item.files else []
    elif item.min is not None and item.max is not None:
        # The limit of a seed, 2 ** 53, means nothing to a user.
        huge = item.max >= 2**53
        span = say("page", "any whole number" if huge else "{low} to {high}")
        allowed = [span.format(low=f"{item.min:g}", high=f"{item.max:g}")]
    elif item.files or item.listing:
        allowed = [say("page", "a file from the list" if item.files else "a name from the list")]
    elif item.type in WIDGETS:
        allowed = [say("page", WIDGETS[item.type])]
    else:
        allowed = [say("page", "a connection ({type})").format(type=item.type)]
    if item.optional:
        allowed.append(say("page", "optional"))
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
    """Return the id of an input or output, and its translated name if it has one."""
    name = say(node_id, item.name)
    return f"`{full}`" if name == item.name else f"`{full}` {name}"


def page(node_id: str, stage: Stage, say: Words) -> str:
    """Return the help page of a node."""
    typical = TYPICAL.get(node_id, {})
    title = say(node_id, stage.display_name)

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
        condition = say("page", " (with *{choice}*)").format(choice=choice) if choice else ""
        values = _values(item, say(node_id, typical.get(name, "")), say)
        label = _named(item, name, node_id, say)
        lines.append(f"| {label}{condition} | {say(node_id, item.tooltip)} | {values} |")
    lines += head("Output", "What it is")
    for output in stage.outputs:
        label = _named(output, output.name, node_id, say)
        lines.append(f"| {label} | {say(node_id, output.tooltip)} |")
    lines += ["", f"## {say('page', 'Typical mistakes')}", *head("What you see", "What to do")]
    lines += [
        f"| {say(node_id, symptom)} | {say(node_id, remedy)} |"
        for symptom, remedy in MISTAKES[node_id]
    ]
    lines.append("")
    return "\n".join(lines)


def locale(say: Words) -> dict:
    """Return ``nodeDefs.json``, in which dots of ids are underscores, as ComfyUI expects."""
    return {
        node_id: {
            "display_name": say(node_id, stage.display_name),
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
    """Return name and tooltip of every input.

    Inputs of several choices can have the same name; ComfyUI has one entry for them, so their tooltips
    are joined.
    """
    words: dict[str, dict[str, str]] = {}
    choices: dict[str, dict[str, str]] = {}
    for name, item, choice in flat(stage.inputs):
        key = name.replace(".", "_")
        tooltip = say(node_id, item.tooltip)
        choices.setdefault(key, {}).setdefault(tooltip, choice)
        words[key] = {"name": say(node_id, item.name), "tooltip": tooltip}
    for key, by_tooltip in choices.items():
        if len(by_tooltip) > 1:
            parts = [f"{choice}: {tooltip}" for tooltip, choice in by_tooltip.items()]
            words[key]["tooltip"] = "\n".join(parts)
    return words


def panel_texts() -> list[str]:
    """Return the texts that the panels pass to ``t`` (web/i18n.js)."""
    scripts = sorted((ROOT / "web").glob("*.js"))
    return [
        json.loads(text)
        for script in scripts
        for text in re.findall(r'\bt\(\s*("(?:[^"\\]|\\.)*")', script.read_text(encoding="utf-8"))
    ]


def _script(words: dict[str, Words]) -> str:
    """Return ``web/translations.js``: the panels' texts, and the tooltips inside choices by node."""
    others = {name: say for name, say in words.items() if name != "en"}
    panels = {
        name: {text: say("panels", text) for text in panel_texts()} for name, say in others.items()
    }
    inner = {
        node_id: [item.tooltip for name, item, _ in flat(stage.inputs) if "." in name]
        for node_id, stage in STAGES.items()
    }
    tooltips = {
        name: {
            node_id: {text: say(node_id, text) for text in texts}
            for node_id, texts in inner.items()
            if texts
        }
        for name, say in others.items()
    }
    head = (
        "/** Translations by language, keyed by the English text; made by tools/make_docs.py. */\n"
    )
    parts = {"panels": panels, "tooltips": tooltips}
    return head + "".join(
        f"\nexport const {key} = {_json(part)[:-1]};\n" for key, part in parts.items()
    )


def _json(value: dict) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def language_files(say: Words) -> dict[Path, str]:
    """Return the contents of the generated files of one language."""
    docs, folder = ROOT / "web" / "docs", ROOT / "locales" / say.language
    pattern = "{}.md" if say.language == "en" else f"{{}}/{say.language}.md"
    pages = {docs / pattern.format(i): page(i, stage, say) for i, stage in STAGES.items()}
    words = {folder / "nodeDefs.json": _json(locale(say))}
    if say.language != "en":
        menu = {"nodeCategories": {name: say("categories", name) for name in CATEGORIES}}
        words[folder / "main.json"] = _json(menu)
    return pages | words


def all_words() -> dict[str, Words]:
    """Return the words of every language, English first, with nothing looked up yet."""
    others = {name: Words(name, translations.read(name)) for name in translations.LANGUAGES}
    return {"en": Words(), **others}


def files(words: dict[str, Words] | None = None) -> dict[Path, str]:
    """Return the contents of all generated files, and look up every text in ``words``."""
    words = words or all_words()
    contents: dict[Path, str] = {}
    for say in words.values():
        contents |= language_files(say)
    return contents | {ROOT / "web" / "translations.js": _script(words)}


def errors(words: Words) -> list[str]:
    """Return the stale and unfaithful translations of a language, once ``files`` has used it."""
    titles = {node_id: stage.display_name for node_id, stage in STAGES.items()}
    return translations.errors(words, titles)


def main() -> int:
    words = all_words()
    contents = files(words)
    if sys.argv[1:] == ["--missing"]:
        for language in translations.LANGUAGES:
            print(f"{language}: {translations.to_fill_in(words[language]) or 'complete'}")
        return 0
    for path, text in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    status = 0
    for language in translations.LANGUAGES:
        missing = sum(map(len, words[language].missing().values()))
        if missing:
            _log.warning("%s: texts that stay English: %d; see --missing", language, missing)
        for fault in errors(words[language]):
            _log.error("%s: %s", language, fault)
            status = 1
    return status


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(message)s")
    sys.exit(main())
