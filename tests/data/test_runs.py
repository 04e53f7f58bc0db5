"""What lies on disk survives crashes and is not mixed up."""

import json

import pytest
import torch
from PIL import Image

from gdro_comfy.data import files, groups, runs
from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.data.trainings import Training
from gdro_comfy.errors import InputError


def settings(**changes):
    values = {"model": {"id": 1}, "steps": 8, "guidance": 1.0, "size": (64, 64), "seed": 0}
    return runs.RunSettings(**{**values, **changes})


def add(group, count):
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(count)]
    group.add(
        group.count(),
        torch.randn(count, 16, 2, 2),
        images,
        BatchedConditioning({"hidden": torch.ones(1, 3)}),
    )


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": True})

    def half(file):
        file.write(b"{")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        files.write_atomic(path, half)
    assert json.loads(path.read_text()) == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_a_line_cut_short_is_ignored_and_does_not_spoil_the_next(tmp_path):
    path = tmp_path / "scores.jsonl"
    files.append_lines(path, [{"a": 1}])
    with open(path, "ab") as file:
        file.write(b'{"a": 2, "b')
    assert files.read_lines(path) == [{"a": 1}]
    files.append_lines(path, [{"a": 3}])
    assert files.read_lines(path) == [{"a": 1}, {"a": 3}]


def test_lines_of_a_history_without_a_step_are_passed_over(tmp_path):
    training = Training(tmp_path)
    rows = [{}, {"step": "1"}, {"step": None}, {"step": True}, {"step": 1.5}, {"step": 2}]
    files.append_lines(training.history, rows)
    assert training.rows() == [{"step": 2}]


def test_same_settings_are_the_same_run_and_others_another(tmp_path):
    first = runs.Run.open(tmp_path, "cats", settings())
    assert runs.Run.open(tmp_path, "cats", settings()).folder == first.folder
    for change in ({"steps": 9}, {"model": {"id": 2}}, {"seed": 1}, {"size": (64, 128)}):
        assert runs.Run.open(tmp_path, "cats", settings(**change)).folder != first.folder


def test_a_run_folder_of_another_model_is_refused_and_untouched(tmp_path):
    run = runs.Run.open(tmp_path, "cats", settings())
    record = run.folder / "run.json"
    files.write_record(record, {**files.read_record(record), "model": {"id": 99}})
    before = record.read_text()
    with pytest.raises(InputError, match=r"run_name.*another model"):
        runs.Run.open(tmp_path, "cats", settings())
    assert record.read_text() == before


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", ".hidden", "x" * 41, "tail.", "a\\b", "nul\0"]
)
def test_names_that_could_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="run_name"):
        runs.Run.open(tmp_path, name, settings())


def test_a_group_grows_and_keeps_what_it_has(tmp_path):
    group = runs.Run.open(tmp_path, "cats", settings()).group(Prompt("a cat"))
    assert group.count() == 0
    add(group, 3)
    first = group.latents()
    add(group, 2)
    assert group.count() == 5
    assert torch.equal(group.latents()[:3], first)
    assert group.image(4).size == (8, 8)
    assert group.conditioning().tensors["hidden"].shape == (1, 3)


def test_images_without_a_latent_do_not_count(tmp_path, monkeypatch):
    group = runs.Run.open(tmp_path, "cats", settings()).group(Prompt("a cat"))
    add(group, 2)

    def crash(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(groups, "write_tensors", crash)
    with pytest.raises(KeyboardInterrupt):
        add(group, 2)
    assert group.image_path(3).is_file()
    assert group.count() == 2


def test_seeds_depend_on_run_prompt_and_place_only(tmp_path):
    one = runs.Run.open(tmp_path, "a", settings()).group(Prompt("a cat"))
    same = runs.Run.open(tmp_path, "b", settings()).group(Prompt("a cat"))
    other = runs.Run.open(tmp_path, "a", settings(seed=1)).group(Prompt("a cat"))
    assert one.image_seed(3) == same.image_seed(3)
    seeds = {one.image_seed(0), one.image_seed(1), other.image_seed(0)}
    assert len(seeds) == 3


def test_tensors_read_in_inference_mode_may_carry_gradients(tmp_path):
    files.write_tensors(tmp_path / "t.safetensors", {"x": torch.ones(2)})
    with torch.inference_mode():
        x = files.read_tensors(tmp_path / "t.safetensors")["x"]
    assert not x.is_inference()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    blocked = tmp_path / "output"
    blocked.write_text("a file where the folder should be")
    with pytest.raises(InputError, match="cannot be written"):
        runs.Run.open(blocked, "cats", settings())


def test_latents_are_appended_and_merged_when_the_group_is_complete(tmp_path):
    group = runs.Run.open(tmp_path, "cats", settings()).group(Prompt("a cat"))
    for _ in range(3):
        add(group, 2)
    first = group.folder / "latents.safetensors"
    before, stamp = group.latents(), first.stat().st_mtime_ns
    assert group.count() == 6
    assert len(list(group.folder.glob("latents*"))) == 3
    assert len(files.read_tensors(first)["latents"]) == 2, "the first file was rewritten"
    group.merge()
    assert [path.name for path in group.folder.glob("latents*")] == ["latents.safetensors"]
    assert first.stat().st_mtime_ns > stamp
    assert torch.equal(group.latents(), before)
    seeds = files.read_tensors(first)["seeds"]
    assert seeds.tolist() == [group.image_seed(index) for index in range(6)]


def test_a_merge_that_was_interrupted_counts_no_image_twice(tmp_path):
    group = runs.Run.open(tmp_path, "cats", settings()).group(Prompt("a cat"))
    add(group, 2)
    add(group, 3)
    appended = group.folder / "latents-002.safetensors"
    content = appended.read_bytes()
    group.merge()
    appended.write_bytes(content)  # as if the process had ended before it was deleted
    assert group.count() == 5
    add(group, 1)
    assert group.count() == 6
    assert len(group.latents()) == 6


def test_a_line_separator_inside_a_string_does_not_end_a_line(tmp_path):
    path = tmp_path / "answers.jsonl"
    rows = [{"answer": "one\u2028two\x85three"}, {"answer": "four"}]
    files.append_lines(path, rows)
    assert files.read_lines(path) == rows


@pytest.mark.parametrize(
    "line", [b'{"a": 2, "b": "caf\xc3', b"[1, 2]", b"7", b"[" * 100_000, b"\xff\xfe"]
)
def test_a_line_that_is_no_object_does_not_stop_the_others(tmp_path, line):
    path = tmp_path / "scores.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    assert files.read_lines(path) == [{"a": 1}, {"a": 3}]
