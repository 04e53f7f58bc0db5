"""Prompt files as other programs write them: right, or refused with the line."""

import json
import logging

import pytest

from gdro_comfy.data.prompts import from_file, from_text
from gdro_comfy.errors import InputError
from gdro_comfy.stages import STAGES


def write(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def texts(prompts):
    return [prompt.text for prompt in prompts]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_encodings_of_windows_are_read(tmp_path, encoding):
    path = write(tmp_path, "a.txt", "a fox at the café\r\n狐\r\n".encode(encoding))
    assert texts(from_file(path)) == ["a fox at the café", "狐"]


@pytest.mark.parametrize("content", ["café".encode("cp1252"), b"\0\0\0\0", b"\x89PNG\0\0"])
def test_other_encodings_are_refused(tmp_path, content):
    with pytest.raises(InputError, match="is not text in UTF-8"):
        from_file(write(tmp_path, "a.txt", content))


def test_only_line_ends_end_a_prompt():
    separators = "a fox\u2028in snow\na dog\x85in\x0crain\ra cat"
    assert texts(from_text(separators)) == ["a fox in snow", "a dog in rain", "a cat"]


def test_kinds_of_spaces_do_not_make_another_prompt(caplog):
    assert texts(from_text("a red fox\na\u00a0red fox\na red\u200b fox\na  red fox")) == [
        "a red fox"
    ]
    assert "3 repeated prompts" in caplog.text


def test_comments_are_counted(caplog):
    with caplog.at_level(logging.WARNING):
        assert texts(from_text("#1 DAD on a mug\na cat\n# note")) == ["a cat"]
    assert "2 lines that begin with # are left out as comments; the first is '#1 DAD" in caplog.text


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("a fox --n ugly --w 1024", "'--n'"),
        ('--prompt "a castle" --steps 20', "'--prompt'"),
        ("a fox --ar 16:9", "'--ar'"),
        ("woman ### face, limbs", "'###'"),
        ("1girl, <lora:style:0.8>", "'<lora:style:0.8>'"),
        ("Negative prompt: ugly", "'Negative prompt:'"),
        ("Steps: 20, Sampler: Euler", "'Steps:'"),
    ],
)
def test_options_of_other_programs_are_refused_with_their_line(tmp_path, line, found):
    with pytest.raises(InputError, match=f"line 2 has .*{found} of another program"):
        from_file(write(tmp_path, "a.txt", f"a cat\n{line}\n"))


def test_a_few_lines_with_options_in_a_collection_are_taken_literally_with_a_word(caplog):
    lines = [f"a fox {n}" for n in range(19)] + ["a fox --q 2"]
    assert texts(from_text("\n".join(lines))) == lines
    assert "1 lines have options of other programs" in caplog.text
    assert "line 20 has the option '--q'" in caplog.text


def test_dashes_and_hashes_inside_a_prompt_are_its_own():
    lines = ["a fox - in snow -- at night", "a well-lit room", "the #1 mug", "a sign: steps ahead"]
    assert texts(from_text("\n".join(lines))) == lines


TABLES = {
    "tabs": ("a.tsv", 'Prompt\tCategory\n"G I G G L E" in paint\tArts\na "real" fox\tAnimals\n',
             ['"G I G G L E" in paint', 'a "real" fox']),
    "quoted tabs": ("a.tsv", 'Prompt\tNote\n"a sign ""OPEN"""\tx\n', ['a sign "OPEN"']),
    "tabs in a csv": ("a.csv", "Prompt\tCategory\na fox, in snow\tAnimals\n", ["a fox, in snow"]),
    "semicolons": ("a.csv", "prompt;target\na sign, red;OPEN\n", ["a sign, red"]),
    "DrawBench": ("a.csv", 'Prompts,Category\nA car.,Colors\n"A cup, blue.",Colors\n',
                  ["A car.", "A cup, blue."]),
    "spaces": ("a.csv", "id, prompt\n1, a fox\n", ["a fox"]),
    "an index": ("a.csv", ",prompt\n0,a fox\n\n1,a cat\n", ["a fox", "a cat"]),
    "a BOM": ("a.csv", "\ufeffprompt,x\na fox,1\n", ["a fox"]),
    "an empty text": ("a.csv", "text,prompt\n,a fox\n", ["a fox"]),
    "lines in a cell": ("a.csv", 'prompt,x\n"a fox\nin snow",1\n', ["a fox\nin snow"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_read_by_what_separates_their_columns(tmp_path, name):
    file, content, expected = TABLES[name]
    assert texts(from_file(write(tmp_path, file, content))) == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "prompt,target\na cat,x\na red fox, sitting in snow\n",
            "line 3 .*a space follows a comma",
        ),
        ("prompt,x\na fox,1\n\na fox, red, big\n", "line 4 .*more cells"),
        ('prompt,x\na cat,1\n"a sign that says \\"OPEN\\" here",1\n', "line 3"),
        ('prompt,x\na cat,1\n"a fox,1\na dog,1\n', "line 3"),
        ("prompt,include\ntwo dogs,\"[{'class': 'dog'}]\"\n", "line 2"),
        ("a fox in snow\na cat\n", "line 1 .*no column text or prompt"),
    ],
)
def test_tables_that_are_not_clear_are_refused_with_the_line(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        from_file(write(tmp_path, "a.csv", content))


DOGS = [{"class": "dog", "count": 2}]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(["two dogs"])),
        ("a.jsonl", json.dumps([{"prompt": "two dogs", "include": DOGS}])),
        ("a.jsonl", '"two dogs"\n'),
        ("a.jsonl", json.dumps({"text": None, "prompt": "two dogs", "include": json.dumps(DOGS)})),
        (
            "a.jsonl",
            json.dumps({"Prompt": "two dogs", "include": [{"class": "dog", "count": 2.0}]}),
        ),
        ("a.jsonl", json.dumps({"file_name": "1.png", "caption": "two dogs", "include": DOGS})),
    ],
)
def test_json_is_read_as_lines_and_as_a_list(tmp_path, name, content):
    [prompt] = from_file(write(tmp_path, name, content))
    assert prompt.text == "two dogs"
    assert list(prompt.include) in ([], DOGS)
    assert bool(prompt.include) == ("dog\\" in content or '"dog"' in content)


@pytest.mark.parametrize(
    "content", ['{"prompt": "a"', '{\n "prompt": "a"\n}', "[1]", "[" * 100_000, "3"]
)
def test_broken_json_is_refused_with_the_line(tmp_path, content):
    with pytest.raises(InputError, match="line 1 cannot be used"):
        from_file(write(tmp_path, "a.jsonl", content))


def test_a_limit_makes_the_papers_own_files_usable(host, tmp_path):
    """19,653 lines, as in Flow-GRPO's set for OCR."""
    lines = [f'a window with the words "Sale {i}"' for i in range(19_653)]
    path = write(tmp_path, "train.txt", "\n".join(lines))
    host.model_files = lambda kind: {"train.txt": path}
    source = {"source": "file", "file": "train.txt"}
    [prompts] = STAGES["GDRO_PromptSet"](host, source=source, limit=256)
    assert len(prompts) == 256
    assert set(texts(prompts)) <= set(lines)
    with pytest.raises(InputError, match=r"more than 10,000 prompts \(19,653\). Set limit"):
        STAGES["GDRO_PromptSet"](host, source=source, limit=0)
