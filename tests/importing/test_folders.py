"""Folders of pictures as people have them: counters, other formats, folders of systems, captions."""

import pytest
from PIL import Image

from gdro_comfy.importing.sources import from_folder, ranks


def fill(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (len(folder.name) * 5 % 255, number * 40, 9)).save(folder / name)


def test_counters_are_no_order_unless_it_is_asked_for(tmp_path):
    fill(tmp_path / "a fox", "00002.png", "00001.png")
    source = from_folder(tmp_path, "folder names")
    assert source.groups[0].ranks is None
    assert any("an empty file ranking.txt" in note for note in source.notes)
    (tmp_path / "ranking.txt").touch()
    [group] = from_folder(tmp_path, "folder names").groups
    assert group.ranks == (0, 1)
    assert [image.name for image in group.images] == ["a fox/00001.png", "a fox/00002.png"]


@pytest.mark.parametrize(
    ("stems", "expected"),
    [(["2", "1"], [1, 0]), (["01", "10"], [0, 1]), (["0000", "0001"], None), (["0001", "2"], None)],
)
def test_numbers_that_somebody_typed_are_an_order(stems, expected):
    assert ranks(stems) == expected


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    fill(tmp_path / "a fox", "a.png", "b.png")
    fill(tmp_path / "@eaDir", "x.jpg")
    fill(tmp_path / "__MACOSX", "y.jpg")
    (tmp_path / "empty").mkdir()
    for name in ("c.avif", "d.AVIF", "e.heic", "notes", "a.txt", "Thumbs.db"):
        (tmp_path / "a fox" / name).write_bytes(b"x")
    source = from_folder(tmp_path, "folder names")
    assert [group.label for group in source.groups] == ["a fox"]
    assert (
        "4 files of other kinds are left out: .avif (2), .heic (1), no ending (1)" in source.notes
    )
    assert "2 folders of the system are left out: @eaDir, __MACOSX" in source.notes
    assert "1 sub-folders without pictures are left out: empty" in source.notes


def test_pictures_that_lie_deeper_are_a_problem(tmp_path):
    """The folders that GenEval's script writes: samples inside, a grid of them beside."""
    fill(tmp_path / "00000" / "samples", "0000.png", "0001.png")
    fill(tmp_path / "00000", "grid.png")
    [problem] = from_folder(tmp_path, "folder names").problems
    assert problem.startswith("00000: 2 pictures lie in its folder samples, which is not read")


@pytest.mark.parametrize("names", [("a.caption", "b.caption"), ("PROMPT.TXT",), ("A.TXT", "B.txt")])
def test_captions_are_found_whatever_their_capitals_and_ending(tmp_path, names):
    fill(tmp_path, "a.png", "b.png")
    for name in names:
        (tmp_path / name).write_text("a fox\n in snow")
    source = from_folder(tmp_path, "caption files")
    assert ([group.prompt for group in source.groups], source.problems) == (["a fox in snow"], [])
