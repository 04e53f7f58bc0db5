"""The help pages: every node, input and output is explained, and the messages that they quote exist."""

import ast
import json
import re

import make_docs
import pytest

from gdro_comfy.stages import STAGES

CODE = [*(make_docs.ROOT / "gdro_comfy").rglob("*.py"), *(make_docs.ROOT / "nodes").rglob("*.py")]


def _template(node):
    """Return a string of the code, with … for the parts that are filled in at run time."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _template(node.left) + _template(node.right)
    return "…"


@pytest.fixture(scope="module")
def messages():
    """All messages of ``InputError`` in the code."""
    calls = [
        node
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError"
    ]
    arguments = [[_template(argument) for argument in call.args] for call in calls]
    return [f"{name}: {found}. {remedy}" for name, found, remedy in arguments]


@pytest.mark.parametrize("node_id", list(STAGES))
def test_every_input_and_output_is_explained(node_id):
    stage = STAGES[node_id]
    assert len(stage.description) > 20
    assert stage.category
    for name, item, _ in make_docs.flat(stage.inputs):
        assert len(item.tooltip) > 5, name
    assert all(len(output.tooltip) > 5 for output in stage.outputs)
    assert stage.preview is None or stage.preview in {output.name for output in stage.outputs}


@pytest.mark.parametrize("node_id", list(STAGES))
def test_the_page_lists_every_input_and_output(node_id):
    stage = STAGES[node_id]
    page = (make_docs.ROOT / "web" / "docs" / f"{node_id}.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([^`]+)`", page.split("## Typical mistakes")[0], re.MULTILINE)
    inputs = [name for name, _, _ in make_docs.flat(stage.inputs)]
    assert rows == inputs + [output.name for output in stage.outputs]


def test_the_locale_has_the_texts_of_every_input():
    path = make_docs.ROOT / "locales" / "en" / "nodeDefs.json"
    words = json.loads(path.read_text(encoding="utf-8"))
    assert list(words) == list(STAGES)
    assert "algorithm_beta" in words["GDRO_TrainLoRA"]["inputs"]
    for node_id, stage in STAGES.items():
        names = {name.replace(".", "_") for name, _, _ in make_docs.flat(stage.inputs)}
        assert words[node_id]["inputs"].keys() == names
    beta = words["GDRO_TrainLoRA"]["inputs"]["algorithm_beta"]["tooltip"]
    assert [line.split(": ")[0] for line in beta.splitlines()] == ["gdro", "dgpo", "dpo", "nft"]


def test_pages_and_locale_are_up_to_date():
    for path, text in make_docs.files().items():
        assert path.read_text(encoding="utf-8") == text, f"run tools/make_docs.py: {path.name}"


def test_each_node_has_a_page_and_there_is_no_other():
    pages = {path.stem for path in (make_docs.ROOT / "web" / "docs").glob("*.md")}
    assert pages == set(STAGES) == set(make_docs.ADVICE) == set(make_docs.MISTAKES)


def test_each_node_has_a_picture_and_they_are_small():
    pictures = list((make_docs.ROOT / "web" / "docs" / "images").iterdir())
    assert {path.name for path in pictures} == {f"{node_id}.png" for node_id in STAGES}, (
        "run tools/make_pictures.py"
    )
    assert sum(path.stat().st_size for path in pictures) < 1_500_000


@pytest.mark.parametrize("node_id", list(STAGES))
def test_typical_values_belong_to_existing_inputs(node_id):
    known = {name for name, _, _ in make_docs.flat(STAGES[node_id].inputs)}
    assert set(make_docs.TYPICAL.get(node_id, {})) <= known


@pytest.mark.parametrize("node_id", list(STAGES))
def test_quoted_messages_exist_in_the_code(node_id, messages):
    quotes = [symptom for symptom, _ in make_docs.MISTAKES[node_id] if symptom.startswith("`")]
    assert quotes
    for quote in quotes:
        text = quote.split("`")[1]
        pattern = ".*".join(re.escape(part.strip()) for part in text.split("…"))
        assert any(re.search(pattern, message) for message in messages), text
