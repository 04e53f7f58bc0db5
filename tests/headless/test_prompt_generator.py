"""Prompts from templates: the shipped sets, and what the command line writes."""

import re
from collections import Counter

import pytest

from gdro_comfy.data.prompts import Prompt, from_file, quoted_text, shipped
from gdro_comfy.errors import InputError
from gdro_comfy.headless import cli, prompt_generator
from gdro_comfy.rewards.composition_prompts import parse_nouns


def test_the_shipped_sets_are_reproduced():
    import make_real_prompts

    for kind, make, count in (
        ("signs", prompt_generator.sign_prompts, 1000),
        ("things", prompt_generator.thing_prompts, 500),
    ):
        made = [Prompt.from_json(row) for row in make(count, make_real_prompts.SEED)]
        assert made == [*shipped(f"{kind}_train"), *shipped(f"{kind}_heldout")]


def test_signs_have_twenty_scenes_and_distinct_texts():
    train, held_out = shipped("signs_train"), shipped("signs_heldout")
    texts = [quoted_text(prompt) for prompt in (*train, *held_out)]
    assert all(len(parts) == 1 for parts in texts)
    assert len({parts[0].lower() for parts in texts}) == 1000
    for part in (train, held_out):
        scenes = Counter(re.sub(r'".*"', "", prompt.text) for prompt in part)
        assert len(scenes) == 20
        assert max(scenes.values()) == min(scenes.values())


def test_things_have_all_six_tasks_and_no_repeats():
    rows = prompt_generator.thing_prompts(500, 1)
    tasks = Counter(row["tag"] for row in rows)
    assert set(tasks) == set(prompt_generator.TASKS)
    assert min(tasks.values()) >= 40
    assert len({str(row["include"]) for row in rows}) == 500
    train = {prompt.text for prompt in shipped("things_train")}
    assert not train & {prompt.text for prompt in shipped("things_heldout")}
    held_out = [len(prompt.include) for prompt in shipped("things_heldout")]
    assert {1, 2} == set(held_out)


def test_entries_agree_with_the_text_of_the_prompt():
    """The composition reward reads the same entries from the text."""
    for row in prompt_generator.thing_prompts(3000, 2):
        assert [*parse_nouns(row["prompt"])] == row["include"], row["prompt"]


def test_the_command_line_writes_a_file_and_overwrites_none(tmp_path, capsys):
    out = tmp_path / "more.jsonl"
    assert cli.main(["prompts", "things", "--count", "40", "--seed", "7", "--out", str(out)]) == 0
    prompts = from_file(out)
    assert len(prompts) == 40
    assert "40 prompts" in capsys.readouterr().out
    before = out.read_bytes()
    assert cli.main(["prompts", "signs", "--out", str(out)]) == 2
    assert out.read_bytes() == before
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, -1, 10**7])
def test_impossible_counts_are_refused(count):
    for make in (prompt_generator.sign_prompts, prompt_generator.thing_prompts):
        with pytest.raises(InputError, match="cannot be made"):
            make(count, 0)
