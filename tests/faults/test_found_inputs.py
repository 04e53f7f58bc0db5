"""Inputs that once stopped a reader with an error that was not ours, or with a page of the user's text."""

import json

import pytest
from public_readers import LONGEST, READERS, check

from gdro_comfy.data.damage import DamagedFile
from gdro_comfy.data.groups import Group
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards.formula import Formula

_LONG = "text" * 1000
FOUND = [
    ("formulas", "-" * 900 + "a"),
    ("formulas", "a+" * 480 + "a"),
    ("weights", _LONG),
    ("settings of rewards", _LONG),
    ("answers", b"[" * 100_000),
    ("workflows", b'{"nodes": [], "links": 1}'),
    ("workflows", b'{"nodes": [], "links": [], "definitions": {"subgraphs": 3}}'),
    ("workflows", b'{"nodes": [], "links": [], "definitions": {"subgraphs": [{"id": [1]}]}}'),
    ("workflows", json.dumps({"1": {"class_type": _LONG, "inputs": {}}}).encode()),
    ("workflows", json.dumps({"1": {"class_type": "GDRO_PromptSet", "inputs": {"limit": [_LONG]}}}).encode()),
    ("settings of workflows", _LONG),
    ("ratings from tables", _LONG.encode()),
    ("prompt files", (".csv", _LONG.encode())),
    ("histories", b'{"step": 1, "validation": 3}\n[1]\n{"step": true}'),
    ("scores", b'{"prompt": "a", "image": true, "value": 1}'),
    ("run folders", {"run.json": b"{}", "scores/a.jsonl": b'{"prompt": "9e2b4b4b2f1c", "image": 0, '
                     b'"value": 1, "details": 7}'}),
    ("run folders", {"run.json": b"[" * 5000, "train/t/done.json": b'{"lora": "../../x", "steps": []}'}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), FOUND)
def test_an_input_that_was_found_is_read_or_refused(name, value, tmp_path):
    assert name in READERS
    check(name, tmp_path, value)


def test_deep_formulas_are_refused_and_long_ones_work():
    with pytest.raises(InputError, match="200 steps in each other"):
        Formula("-" * 300 + "a", ["a"])
    assert Formula("a+" * 150 + "a", ["a"])({"a": 2.0}) == 302


def test_a_group_without_latents_is_named(tmp_path):
    with pytest.raises(DamagedFile, match="it is gone"):
        Group(tmp_path, Prompt("a cat"), 0).latents()


def test_a_message_quotes_a_line_at_most():
    for name, value in (("weights", _LONG), ("formulas", "(" * 900), ("addresses", _LONG)):
        with pytest.raises(InputError) as caught:
            READERS[name].read(None, value)
        assert len(str(caught.value)) < LONGEST / 4
