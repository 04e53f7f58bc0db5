import logging
import random

import pytest
import scenes

from gdro_comfy.data import prompts
from gdro_comfy.data.prompts import Prompt, PromptSet, from_file, from_text, quoted_text, shipped
from gdro_comfy.errors import InputError

TWO_THINGS = {
    "text": "a circle left of two red squares",
    "include": [
        {"class": "circle", "count": 1},
        {"class": "square", "count": 2, "color": "red", "position": ["right of", 0]},
    ],
    "target": "OPEN",
}


def write(tmp_path, name, text, encoding="utf-8"):
    path = tmp_path / name
    path.write_bytes(text.encode(encoding))
    return path


def texts(prompt_set):
    return [prompt.text for prompt in prompt_set]


def test_text_skips_blank_lines_and_comments():
    found = from_text("a cat\n\n  # a comment\n   a dog  \n")
    assert texts(found) == ["a cat", "a dog"]
    assert len(found) == 2


@pytest.mark.parametrize("text", ["", "  \n\n", "# only a comment"])
def test_text_without_prompts_is_refused(text):
    with pytest.raises(InputError) as error:
        from_text(text)
    assert error.value.input_name == "text"


def test_repeated_prompts_are_dropped_with_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        found = from_text("a cat\na dog\na cat")
    assert texts(found) == ["a cat", "a dog"]
    assert "1 repeated" in caplog.text


def test_too_many_prompts_are_refused(monkeypatch):
    monkeypatch.setattr(prompts, "MAX_PROMPTS", 3)
    with pytest.raises(InputError, match="more than 3"):
        from_text("a\nb\nc\nd")


def test_prompt_survives_json():
    prompt = Prompt.from_json(TWO_THINGS)
    assert prompt.to_json() == TWO_THINGS
    assert Prompt.from_json(prompt.to_json()) == prompt
    assert Prompt("a cat").to_json() == {"text": "a cat"}
    assert len({prompt, Prompt.from_json(TWO_THINGS)}) == 1


def test_genevals_own_metadata_is_read():
    row = {
        "tag": "colors",
        "include": [{"class": "bench", "count": 1, "color": "red"}],
        "prompt": "a photo of a red bench",
    }
    prompt = Prompt.from_json(row)
    assert prompt.text == "a photo of a red bench"
    assert prompt.include == ({"class": "bench", "count": 1, "color": "red"},)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{}", 'no "text"'),
        ('{"text": "  "}', 'no "text"'),
        ('["a cat"]', "not an object"),
        ('{"text": "a cat"', "delimiter"),
        ('{"text": "a", "target": ""}', '"target"'),
        ('{"text": "a", "include": "cat"}', "must be a list"),
        ('{"text": "a", "include": [{"count": 1}]}', '"class"'),
        ('{"text": "a", "include": [{"class": "cat", "count": 0}]}', '"count"'),
        ('{"text": "a", "include": [{"class": "cat", "count": true}]}', '"count"'),
        ('{"text": "a", "include": [{"class": "cat", "position": ["above", 0]}]}', "earlier entry"),
        (
            '{"text": "a", "include": [{"class": "a"}, {"class": "b", "position": ["on", 0]}]}',
            "above",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_number(tmp_path, line, words):
    path = write(tmp_path, "set.jsonl", '{"text": "fine"}\n\n' + line + "\n")
    with pytest.raises(InputError) as error:
        from_file(path)
    assert error.value.input_name == "file"
    assert "line 3" in str(error.value)
    assert words in str(error.value)


def test_files_of_each_kind(tmp_path):
    assert texts(from_file(write(tmp_path, "a.txt", "one\n# no\ntwo"))) == ["one", "two"]
    # A byte order mark and Windows line ends, as Excel and Notepad write them.
    table = 'id,text,target\r\n1,"a sign, red",STOP\r\n2,a cat,\r\n,,\r\n'
    found = from_file(write(tmp_path, "b.CSV", table, "utf-8-sig"))
    assert [(p.text, p.target) for p in found] == [("a sign, red", "STOP"), ("a cat", None)]
    assert found.name == "b"
    found = from_file(write(tmp_path, "c.jsonl", '{"text": "a cat"}\r\n'))
    assert texts(found) == ["a cat"]


def test_csv_can_carry_include(tmp_path):
    table = 'prompt,include\ntwo cats,"[{""class"": ""cat"", ""count"": 2}]"\n'
    (prompt,) = from_file(write(tmp_path, "a.csv", table))
    assert prompt.include == ({"class": "cat", "count": 2},)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "words\ncat\n", "line 1 .*no column text"),
        ("a.csv", "text\na cat, red\n", "line 2 .*more cells"),
        ("a.csv", 'text,target\n"a cat,x\n', "line 2"),
        ("a.csv", "target,text\nSTOP,\n", 'line 2 .*no "text"'),
        ("a.csv", "text,target\n", "no prompts"),
        ("a.txt", "", "no prompts"),
        ("a.jsonl", "\n", "no prompts"),
        ("a.yaml", "cat", ".txt, .jsonl, .csv"),
    ],
)
def test_bad_files_are_refused_with_words(tmp_path, name, content, words):
    with pytest.raises(InputError, match=words) as error:
        from_file(write(tmp_path, name, content))
    assert error.value.input_name == "file"


def test_unreadable_files_are_refused_with_words(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="cannot be read"):
        from_file(tmp_path / "missing.txt")
    with pytest.raises(InputError, match="UTF-8"):
        from_file(write(tmp_path, "latin.txt", "café", "latin-1"))
    monkeypatch.setattr(prompts, "MAX_BYTES", 4)
    with pytest.raises(InputError, match="more than"):
        from_file(write(tmp_path, "big.txt", "a long line"))


def test_limit_draws_the_same_prompts_for_the_same_seed():
    whole = from_text("\n".join(f"prompt {i}" for i in range(50)))
    some = whole.limit(8, seed=3)
    assert some == whole.limit(8, seed=3)
    assert some != whole.limit(8, seed=4)
    assert texts(some) == [text for text in texts(whole) if text in texts(some)]
    assert len(some) == 8
    assert whole.limit(99) == whole
    with pytest.raises(InputError):
        whole.limit(0)


def test_digest_tells_contents_apart():
    first = PromptSet((Prompt("a"), Prompt("b")), "x")
    assert first.digest() == PromptSet((Prompt("a"), Prompt("b")), "y").digest()
    assert first.digest() == "6281d14c38a4", "a digest must not change between versions"
    others = [(Prompt("b"), Prompt("a")), (Prompt("a"),), (Prompt("a"), Prompt("b", target="c"))]
    assert len({first.digest(), *(PromptSet(other, "x").digest() for other in others)}) == 4


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('a sign that says "OPEN"', ["OPEN"]),
        ("a sign that says “OPEN” and „ZU“", ["OPEN", "ZU"]),
        ('"A" over "B C"', ["A", "B C"]),
        ('nothing, "" and "  "', []),
        ("it's a dog's 'sign'", []),
    ],
)
def test_quoted_text(text, parts):
    assert quoted_text(Prompt(text)) == parts


def test_shipped_sets_are_what_they_say():
    sizes = {name: len(shipped(name)) for name in prompts.shipped_names()}
    assert sizes == {
        "shapes_heldout": 96,
        "shapes_train": 192,
        "signs_heldout": 200,
        "signs_train": 800,
        "things_heldout": 100,
        "things_train": 400,
        "words_heldout": 32,
        "words_train": 96,
    }
    assert not {*texts(shipped("shapes_train"))} & {*texts(shipped("shapes_heldout"))}
    train, held_out = (
        {quoted_text(prompt)[0] for prompt in shipped(name)}
        for name in ("words_train", "words_heldout")
    )
    assert (len(train), len(held_out)) == (24, 8)
    assert train | held_out == set(scenes.SIGN_WORDS)
    assert not train & held_out
    assert all(len(word) == 3 for word in train | held_out)
    with pytest.raises(InputError, match="shapes_train"):
        shipped("../words_train")


def test_shipped_sets_are_what_the_tool_writes():
    import make_prompts

    made = make_prompts.shape_prompts(random.Random(make_prompts.SEED), 288)
    assert [Prompt.from_json(row) for row in made] == [
        *shipped("shapes_train"),
        *shipped("shapes_heldout"),
    ]


def test_the_bundled_model_knows_the_words_of_the_shipped_shapes():
    for name in ("shapes_train", "shapes_heldout"):
        for prompt in shipped(name):
            assert set(prompt.text.split()) <= set(scenes.CAPTION_WORDS)
