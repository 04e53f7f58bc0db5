"""Translations of the nodes, their help pages and the panels.

A missing translation is a warning of ``tools/make_docs.py``, and the text stays English. A translation that
is stale, or that changes code, figures or the title of a node, is an error.
"""

import json
import re

import make_docs
import pytest
import translations

from gdro_comfy.stages import STAGES

ROOT = make_docs.ROOT
LANGUAGES = ("ja", "zh")
WORDS = make_docs.all_words()
FILES = make_docs.files(WORDS)


def _untranslated(language):
    """The texts that stay English."""
    return {text for texts in WORDS[language].missing().values() for text in texts}


def test_the_languages_are_those_that_are_promised():
    assert translations.LANGUAGES == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_translation_is_stale_or_unfaithful(language):
    assert make_docs.errors(WORDS[language]) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_locale_has_every_translation_of_nodes_inputs_and_outputs(language):
    english, words = (
        json.loads((ROOT / "locales" / name / "nodeDefs.json").read_text(encoding="utf-8"))
        for name in ("en", language)
    )
    untranslated = _untranslated(language)
    assert words.keys() == english.keys() == set(STAGES)
    for node_id, node in words.items():
        for key in ("display_name", "description"):
            text = english[node_id][key]
            assert node[key] != text or text in untranslated
        for kind in ("inputs", "outputs"):
            assert node[kind].keys() == english[node_id][kind].keys()
            for name, item in node[kind].items():
                tooltip = english[node_id][kind][name]["tooltip"]
                assert item["name"], (node_id, name)
                assert item["tooltip"] != tooltip or tooltip in untranslated, (node_id, name)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_pages_explain_the_same_inputs_and_mistakes(language):
    docs = ROOT / "web" / "docs"
    for node_id in STAGES:
        paths = (docs / f"{node_id}.md", docs / node_id / f"{language}.md")
        english, page = (path.read_text(encoding="utf-8") for path in paths)
        assert page.count("\n|") == english.count("\n|"), node_id
        assert _ids(page) == _ids(english), node_id


def _ids(page):
    """The inputs and outputs in the tables of a page."""
    return re.findall(r"^\| `([^`]+)`", page.split("\n## ")[0], re.MULTILINE)


def test_there_is_no_page_or_locale_of_a_removed_node_or_language():
    paths = {*(ROOT / "web" / "docs").rglob("*.md"), *(ROOT / "locales").rglob("*.json")}
    assert paths == {path for path in FILES if path.suffix in (".md", ".json")}


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_names_contain_nothing_that_comfyui_would_fill_in(language):
    path = ROOT / "locales" / language / "nodeDefs.json"
    for node in json.loads(path.read_text(encoding="utf-8")).values():
        items = [*node["inputs"].values(), *node["outputs"].values()]
        for text in (node["display_name"], node["description"], *(item["name"] for item in items)):
            assert not re.search(r"[{}@|]", text), text


def test_a_changed_sentence_is_stale_and_named_with_its_new_text(monkeypatch):
    node_id = "GDRO_Generate"
    changed = make_docs.ADVICE[node_id].replace("quick look", "very quick look")
    monkeypatch.setitem(make_docs.ADVICE, node_id, changed)
    words = make_docs.all_words()
    contents = make_docs.files(words)
    assert list(json.loads(translations.to_fill_in(words["zh"]))) == [node_id]
    (fault,) = make_docs.errors(words["zh"])
    assert fault.startswith(f"stale in {node_id}: For a quick look")
    assert "is now: For a very quick look" in fault
    page = contents[ROOT / "web" / "docs" / node_id / "zh.md"]
    assert "very quick look" in page, "an untranslated paragraph stays English"


def test_a_missing_translation_is_a_warning_of_the_tool(monkeypatch, tmp_path, caplog):
    node_id, text = "GDRO_Generate", STAGES["GDRO_Generate"].description
    complete = translations.read

    def read(language):
        table = complete(language)
        del table[node_id][text]
        return table

    monkeypatch.setattr(translations, "read", read)
    monkeypatch.setattr(make_docs, "files", lambda words: _to(tmp_path, words))
    monkeypatch.setattr("sys.argv", ["make_docs.py"])
    assert make_docs.main() == 0
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "ja: texts that stay English: 1" in caplog.text
    assert text in (tmp_path / "web" / "docs" / node_id / "ja.md").read_text(encoding="utf-8")


def _to(folder, words, files=make_docs.files):
    """The generated files, below another folder than the pack's."""
    return {folder / path.relative_to(ROOT): text for path, text in files(words).items()}


@pytest.mark.parametrize(
    ("translation", "fault"),
    [
        ("Use `alpha` 6 to 1,000 with GDRO Generate.", "lost in GDRO_Generate: `beta`\n"),
        ("Use `beta` 6 to 100 with GDRO Generate.", "lost in GDRO_Generate: 1000\n"),
        ("Use `beta` 6 to 1,000 with Generate.", "'GDRO Generate' is not where"),
    ],
)
def test_an_unfaithful_translation_is_an_error(translation, fault):
    english = "Use `beta` 6 to 1,000 with GDRO Generate."
    words = translations.Words("xx", {"GDRO_Generate": {english: translation}})
    words("GDRO_Generate", english)
    (error,) = translations.errors(words, {"GDRO_Generate": "GDRO Generate"})
    assert error.startswith(fault)


def test_lost_figures_and_code_are_found():
    english = "Use `beta` 6 to 1,000, see [here](https://x.org)."
    assert translations.lost_parts(english, "`beta` 6 到 1000，见[这里](https://x.org)。") == []
    assert translations.lost_parts(english, "beta 6 到 100，见[这里](https://x.org)。") == [
        "`beta`",
        "1000",
    ]


def test_every_text_of_the_panels_is_a_literal():
    scripts = [path for path in (ROOT / "web").glob("*.js") if path.name != "i18n.js"]
    calls = sum(len(re.findall(r"\bt\(", path.read_text(encoding="utf-8"))) for path in scripts)
    assert calls == len(make_docs.panel_texts()) > 100
