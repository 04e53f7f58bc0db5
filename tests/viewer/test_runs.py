"""Reading runs for a viewer: what is shown, and that only what is in a run can be had."""

import io
import json
import os

import pytest
from PIL import Image

from gdro_comfy.data.files import append_lines, digest, write_json, write_png
from gdro_comfy.errors import InputError
from gdro_comfy.training import commands
from gdro_comfy.viewer import groups, runs

GROUPS = {"a red circle": [0.1, 0.9], "<img src=x onerror=alert(1)>": [0.5, 0.5], "stars": [0, 0.4]}


@pytest.fixture
def output(tmp_path):
    """An output folder with one run, and secrets around it."""
    folder = tmp_path / "gdro" / "trial-0123abcd"
    identity = {"pipeline": "StableDiffusion3Pipeline", "transformer": "e6116455c092d001"}
    folder.mkdir(parents=True)
    write_json(folder / "run.json", {"name": "trial", "model": identity, "size": [64, 64]})
    (folder / "scores").mkdir()
    for prompt, values in GROUPS.items():
        group = folder / "prompts" / digest(prompt)
        group.mkdir(parents=True)
        write_json(group / "prompt.json", {"text": prompt})
        rows = []
        for place, value in enumerate(values):
            Image.new("RGB", (400, 300), (place, 0, 0)).save(group / f"{place:03d}.png")
            rows.append({"prompt": group.name, "image": place, "value": value, "details": {"n": 1}})
        append_lines(folder / "scores" / "redness-1.jsonl", rows)
    training = folder / "train" / "aaaa000000"
    (training / "samples").mkdir(parents=True)
    write_json(training / "config.json", {"training": {"steps": 9}, "reward": "redness-1.jsonl"})
    append_lines(training / "history.jsonl", [{"step": 1, "loss": 0.5}])
    Image.new("RGB", (8, 8)).save(training / "samples" / "step_00003.png")
    (tmp_path / "secret.png").write_bytes(b"secret")
    (tmp_path / "gdro" / "secret.png").write_bytes(b"secret")
    (tmp_path / "gdro" / "no run").mkdir()
    return tmp_path


@pytest.fixture
def run(output):
    return runs.find(output, "trial-0123abcd")


def test_the_list_shows_what_a_run_is(output):
    [found] = runs.summaries(output)
    assert (found["run"], found["name"], found["groups"]) == ("trial-0123abcd", "trial", 3)
    assert found["model"] == "StableDiffusion3 e6116455"
    assert found["scores"] == ["redness-1.jsonl"]
    assert found["bytes"] > 1000
    [training] = found["trainings"]
    assert (training["state"], training["asked"], training["lora"]) == ("unfinished", 9, None)


def test_the_size_grows_with_new_pictures_and_is_that_of_all_files(output, run):
    before = runs.summary(run)["bytes"]
    assert before == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    write_png(run / "prompts" / digest("stars") / "002.png", Image.new("RGB", (40, 30)))
    after = runs.summary(run)
    assert after["bytes"] == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert after["bytes"] > before


def test_the_graph_of_a_run_is_kept_and_is_none_for_runs_of_the_console(output, run):
    assert runs.summary(run)["workflow"] is False
    with pytest.raises(runs.UnknownName, match="not made on the canvas"):
        runs.workflow(run)
    runs.keep_workflow(output, run.name, {"id": "x", "nodes": []})
    assert runs.summary(run)["workflow"] is True
    assert runs.workflow(run) == {"id": "x", "nodes": []}


def test_an_empty_output_folder_has_no_runs(tmp_path):
    assert runs.summaries(tmp_path) == []


def test_groups_come_sorted_and_in_pages(run):
    page = groups.groups(run, order="spread", limit=2)
    assert [group["prompt"] for group in page["groups"]] == ["a red circle", "stars"]
    assert (page["total"], page["matching"], page["range"]) == (3, 3, [0, 0.9])
    assert sum(page["histogram"]) == 6
    first = page["groups"][0]
    assert [image["value"] for image in first["images"]] == [0.9, 0.1]
    assert first["images"][0]["details"] == {"n": 1}
    rest = groups.groups(run, order="spread", offset=2)
    assert [group["prompt"] for group in rest["groups"]] == ["<img src=x onerror=alert(1)>"]
    assert groups.groups(run, order="spread", least_spread=0.3)["matching"] == 2


def test_scores_written_later_are_seen(run):
    assert groups.groups(run)["range"] == [0, 0.9]
    group = digest("stars")
    row = {"prompt": group, "image": 0, "value": 7.0}
    append_lines(run / "scores" / "redness-1.jsonl", [row])
    assert groups.groups(run)["range"] == [0.1, 7.0]


def test_pictures_are_small_or_whole(run):
    group = digest("stars")
    small = Image.open(io.BytesIO(groups.picture(run, group, 1, thumbnail=True)))
    assert (small.format, small.size) == ("JPEG", (192, 144))
    whole = Image.open(io.BytesIO(groups.picture(run, group, 1, thumbnail=False)))
    assert (whole.format, whole.size) == ("PNG", (400, 300))


@pytest.mark.parametrize(
    "name", ["..", ".", "", "no run", "../gdro/trial-0123abcd", "trial-0123abcd/prompts", "x" * 999]
)
def test_only_listed_runs_are_found(output, name):
    with pytest.raises(runs.UnknownName):
        runs.find(output, name)
    with pytest.raises(runs.UnknownName):
        runs.delete(output, name)
    assert (output / "secret.png").is_file()


@pytest.mark.parametrize("name", ["..", "../..", "", ".", "../train/aaaa000000", "0" * 12])
def test_only_what_lies_in_a_run_is_read(run, name):
    calls = [
        lambda: groups.picture(run, name, 0, thumbnail=False),
        lambda: groups.groups(run, scores=name or ".."),
        lambda: runs.training_folder(run, name),
        lambda: runs.evaluation(runs.training_folder(run, "aaaa000000"), name),
    ]
    for call in calls:
        with pytest.raises(runs.UnknownName):
            call()


def test_links_out_of_the_run_are_not_followed(output, run):
    group = run / "prompts" / digest("stars")
    try:
        os.symlink(output / "secret.png", group / "007.png")
        os.symlink(output, output / "gdro" / "linked", target_is_directory=True)
    except OSError:
        pytest.skip("this system lets nobody make links")
    with pytest.raises(runs.UnknownName):
        groups.picture(run, group.name, 7, thumbnail=False)
    assert list(runs.folders(output)) == ["trial-0123abcd"]


def test_a_history_has_its_rows_and_pictures(run):
    folder = runs.training_folder(run, "aaaa000000")
    found = runs.history(folder)
    assert (found["run"], found["rows"]) == ("trial-0123abcd", [{"step": 1, "loss": 0.5}])
    assert (found["samples"], found["validations"], found["base"]) == ([3], [], False)
    assert runs.sample(folder, "samples", 3).startswith(b"\x89PNG")
    for kind, step in (("samples", 4), ("samples", None), ("validation", None), ("..", 3)):
        with pytest.raises(runs.UnknownName):
            runs.sample(folder, kind, step)


def test_delete_takes_the_run_and_nothing_else(output):
    runs.delete(output, "trial-0123abcd")
    assert {path.name for path in (output / "gdro").iterdir()} == {"secret.png", "no run"}


def test_a_wish_reaches_a_training_only_while_it_is_unfinished(run):
    folder = runs.training_folder(run, "aaaa000000")
    with pytest.raises(InputError, match="unknown"):
        commands.make(folder, "../stop")
    commands.make(folder, "stop")
    assert commands.Wishes(folder, lambda trainer: None)(None, {}) is False, "an old wish counted"
    saved = []
    watcher = commands.Wishes(folder, saved.append)
    commands.make(folder, "save")
    row = {}
    assert watcher("trainer", row) is False
    assert (saved, row) == (["trainer"], {"saved": True})
    commands.make(folder, "stop")
    assert watcher("trainer", {}) is True
    assert watcher("trainer", {}) is False
    (folder / "done.json").write_text(json.dumps({"lora": "x", "steps": 3}))
    with pytest.raises(InputError, match="has ended"):
        commands.make(folder, "stop")
