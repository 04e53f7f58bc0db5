"""Ratings from CSV files as various programs write them: stored, or refused with every faulty line."""

import csv
import json

import pytest
from PIL import Image

from gdro_comfy.data import ratings
from gdro_comfy.data.files import digest, write_json
from gdro_comfy.data.ratings import GroupRating
from gdro_comfy.headless import cli

UNICODE = "zwei größere „Häuser“; blau, 🟦 مرحبا"
PROMPTS = ("a red circle", UNICODE, "=1+1 apples")
CIRCLE, HOUSES, APPLES = (digest(prompt) for prompt in PROMPTS)


@pytest.fixture
def run(tmp_path):
    """A run of three prompts with three pictures each."""
    folder = tmp_path / "gdro" / "taste-0123abcd"
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"name": "taste"})
    for prompt in PROMPTS:
        group = folder / "prompts" / digest(prompt)
        group.mkdir(parents=True)
        write_json(group / "prompt.json", {"text": prompt})
        for index in range(3):
            Image.new("RGB", (8, 8)).save(group / f"{index:03d}.png")
    return folder


def rate(run, text, encoding="utf-8", name="taste"):
    path = run.parent.parent / "ratings.csv"
    path.write_bytes(text.encode(encoding))
    return cli.main(["rate", name, str(path), "--output", str(run.parent.parent)])


def test_a_filled_in_template_is_read_back(run, tmp_path, capsys):
    ratings.write(run, {CIRCLE: GroupRating([None, 4])})
    template = tmp_path / "template.csv"
    command = ["rate", "taste", "--output", str(tmp_path)]
    assert cli.main([*command, str(template), "--template"]) == 0
    assert "9 pictures to rate" in capsys.readouterr().out
    assert cli.main([*command, str(template), "--template"]) == 2, (
        "an existing file was overwritten"
    )
    rows = list(csv.DictReader(template.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["rating"] for row in rows if row["group"] == CIRCLE] == ["", "4", ""]
    assert {row["prompt"] for row in rows if row["group"] == APPLES} == {"'=1+1 apples"}
    for row in rows:
        assert (run / "prompts" / row["file"]).is_file()
        row["rating"] = {"0": "5", "1": "1", "2": ""}[row["image"]]
    with open(tmp_path / "filled.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(reversed(rows))
    assert cli.main([*command, str(tmp_path / "filled.csv")]) == 0
    assert "6 pictures in 3 groups are rated; 3 of these" in capsys.readouterr().out
    assert ratings.read(run) == dict.fromkeys((APPLES, HOUSES, CIRCLE), GroupRating([5, 1, None]))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_encodings_separators_and_decimals_of_other_programs_are_read(run, encoding, separator):
    quoted = f'"{UNICODE}"'
    decomposed = quoted.replace("ö", "o\u0308").replace("ä", "a\u0308")
    rows = [["Prompt", " Rating ", "IMAGE"], [quoted, "4,0" if separator != "," else "4.0", "2"],
            [decomposed, "1", "0"], ["", "", ""]]  # fmt: skip
    assert rate(run, "\r\n".join(separator.join(row) for row in rows), encoding) == 0
    assert ratings.read(run) == {HOUSES: GroupRating([1, None, 4])}


def test_a_separator_hint_and_windows_paths_are_read(run):
    assert rate(run, f"sep=;\nfile;rank\nC:\\x\\{CIRCLE}\\001.png;1\n{CIRCLE}/000.png;7\n") == 0
    assert ratings.read(run) == {CIRCLE: GroupRating([7, 1], True)}


def test_images_not_named_keep_their_rating_and_empty_cells_remove_it(run):
    ratings.write(run, {CIRCLE: GroupRating([3, 4, 5]), HOUSES: GroupRating([1, 2, 3])})
    text = f"group,image,rating\n{CIRCLE},1,\n{CIRCLE},0,2\n"
    assert rate(run, text, name="taste-0123abcd") == 0
    assert ratings.read(run) == {CIRCLE: GroupRating([2, None, 5]), HOUSES: GroupRating([1, 2, 3])}
    assert rate(run, f"group,image,rank\n{CIRCLE},1,1\n") == 0
    assert ratings.read(run)[CIRCLE] == GroupRating([None, 1], True), (
        "stars and ranks are not mixed"
    )


def test_every_faulty_line_is_listed_and_nothing_is_written(run, capsys):
    text = f"""prompt,image,rating,file
a red circle,0,5,
a blue circle,0,5,
a red circle,3,5,
a red circle,-1,5,
a red circle,1,6,
a red circle,1,good,
a red circle,1,2.5,
a red circle,0,4,
,,4,../../secret.png
,,4,{CIRCLE}/099.png
a red circle,2,3,{CIRCLE}/001.png
a red circle,2,3,,,surplus
a red circle,²,3,
"""
    assert rate(run, text) == 2
    message = capsys.readouterr().err
    for line, problem in (
        (3, "no group has the prompt 'a blue circle'"),
        (4, "there is no image '3' of 'a red circle'"),
        (5, "there is no image '-1'"),
        (6, "'6' is not a whole number from 1 to 5"),
        (7, "'good' is not a whole number"),
        (8, "'2.5' is not a whole number"),
        (9, "image 0 of 'a red circle' is rated differently above"),
        (10, "'../../secret.png' is not the file of a picture"),
        (11, "there is no image '99'"),
        (12, "its columns name different pictures"),
        (13, "it has more cells than the first line"),
        (14, "there is no image '²'"),
    ):
        assert f"line {line}: {problem}" in message
    assert "12 lines do not fit, and nothing was written" in message
    assert "Traceback" not in message
    assert not (run / "ratings.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line names no columns"),
        ("prompt,rating\na,1\n", "its first line names prompt, rating. It has to name file"),
        ("file,rating,rank\n", "either rating or rank"),
        ("prompt,image,rating\na red circle,0,\n", "there are no ratings in it. Fill in"),
        ('file,rating\n"x,1\n', "is not valid CSV"),
    ],
)
def test_files_without_ratings_are_refused(run, capsys, text, message):
    assert rate(run, text) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_not_text_and_unknown_runs_are_refused(run, tmp_path, capsys):
    output = ["--output", str(tmp_path)]
    (tmp_path / "picture.csv").write_bytes(b"\x89PNG\xff")
    assert cli.main(["rate", "taste", str(tmp_path / "picture.csv"), *output]) == 2
    assert "is not text in UTF-8" in capsys.readouterr().err
    assert cli.main(["rate", "taste", str(tmp_path / "gone.csv"), *output]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert cli.main(["rate", "../taste", "x.csv", *output]) == 2
    assert "no run '../taste'. Use one of: taste-0123abcd" in capsys.readouterr().err


def test_a_name_of_two_runs_is_refused(run, capsys):
    other = run.with_name("taste-9999")
    other.mkdir()
    (other / "run.json").write_text(json.dumps({"name": "taste"}))
    assert rate(run, "file,rating\n") == 2
    assert "there are 2 runs called 'taste'" in capsys.readouterr().err
