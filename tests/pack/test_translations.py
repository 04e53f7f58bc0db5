"""Every word of the nodes, their help pages and the panels is there in every language: none missing, none
left over, none older than the English, and with the same figures."""

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


def _pairs(language):
    """Every text that is translated: its section, the English, and what it becomes."""
    say = WORDS[language]
    return [
        (one, text, say(one, text)) for text, seen in list(say.asked.items()) for one in list(seen)
    ]


def test_the_languages_are_those_that_are_promised():
    assert translations.LANGUAGES == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_missing_or_left_over(language):
    assert translations.report(WORDS[language]) == ""


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_input_and_output_has_words_of_its_own(language):
    read = {
        name: json.loads((ROOT / "locales" / name / "nodeDefs.json").read_text(encoding="utf-8"))
        for name in ("en", language)
    }
    english, words = read["en"], read[language]
    assert words.keys() == english.keys() == set(STAGES)
    for node_id, node in words.items():
        assert node["display_name"] != english[node_id]["display_name"]
        assert node["description"] != english[node_id]["description"]
        for kind in ("inputs", "outputs"):
            assert node[kind].keys() == english[node_id][kind].keys()
            for name, item in node[kind].items():
                assert item["name"], (node_id, name)
                assert item["tooltip"] != english[node_id][kind][name]["tooltip"], (node_id, name)


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


def test_no_page_or_locale_is_left_of_a_node_or_language_that_is_gone():
    there = {*(ROOT / "web" / "docs").rglob("*.md"), *(ROOT / "locales").rglob("*.json")}
    assert there == {path for path in FILES if path.suffix in (".md", ".json")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_keep_code_links_placeholders_and_figures(language):
    lost = {text: translations.unfaithful(text, said) for _, text, said in _pairs(language)}
    assert {text: parts for text, parts in lost.items() if parts} == {}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_node_is_called_the_same_wherever_it_is_named(language):
    titles = {
        stage.title: WORDS[language](node_id, stage.title) for node_id, stage in STAGES.items()
    }
    for _, text, said in _pairs(language):
        for title, name in titles.items():
            assert (name in said) == (title in text), (text, said)


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
def test_names_hold_nothing_that_comfyui_would_fill_in(language):
    path = ROOT / "locales" / language / "nodeDefs.json"
    for node in json.loads(path.read_text(encoding="utf-8")).values():
        items = [*node["inputs"].values(), *node["outputs"].values()]
        for text in (node["display_name"], node["description"], *(item["name"] for item in items)):
            assert not re.search(r"[{}@|]", text), text


def test_a_changed_sentence_is_named_with_what_it_was(monkeypatch):
    node_id = "GDRO_Generate"
    changed = make_docs.ADVICE[node_id].replace("quick look", "very quick look")
    monkeypatch.setitem(make_docs.ADVICE, node_id, changed)
    words = make_docs.all_words()
    made = make_docs.files(words)
    report = translations.report(words["zh"])
    missing, left_over = report.split("left over in ")
    assert list(json.loads(missing)) == [node_id]
    assert left_over.startswith(f"{node_id}: For a quick look")
    assert "is now: For a very quick look" in left_over
    page = made[ROOT / "web" / "docs" / node_id / "zh.md"]
    assert "very quick look" in page, "an untranslated paragraph stays English"


def test_a_lost_figure_or_code_is_noticed():
    english = "Use `beta` 6 to 1,000, see [here](https://x.org)."
    assert translations.unfaithful(english, "`beta` 6 到 1000，见[这里](https://x.org)。") == []
    assert translations.unfaithful(english, "beta 6 到 100，见[这里](https://x.org)。") == [
        "`beta`",
        "1000",
    ]


def test_every_text_of_the_panels_is_written_out():
    scripts = [path for path in (ROOT / "web").glob("*.js") if path.name != "words.js"]
    calls = sum(len(re.findall(r"\bt\(", path.read_text(encoding="utf-8"))) for path in scripts)
    assert calls == len(make_docs.panel_texts()) > 100
