"""Reading runs for a viewer: what it shows, and that nothing outside a run can be read."""

import io
import json
import math
import os
import shutil

import pytest
from PIL import Image

from gdro_comfy.data.files import append_lines, digest, write_json, write_png
from gdro_comfy.errors import InputError
from gdro_comfy.training import commands
from gdro_comfy.viewer import evaluations, groups, runs

GROUPS = {"a red circle": [0.1, 0.9], "<img src=x onerror=alert(1)>": [0.5, 0.5], "stars": [0, 0.4]}


@pytest.fixture
def output(tmp_path):
    """An output folder with one run, and secret files around it."""
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
        for index, value in enumerate(values):
            Image.new("RGB", (400, 300), (index, 0, 0)).save(group / f"{index:03d}.png")
            rows.append({"prompt": group.name, "image": index, "value": value, "details": {"n": 1}})
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


def test_the_list_describes_each_run(output):
    [summary] = runs.summaries(output)
    assert (summary["run"], summary["name"], summary["groups"]) == ("trial-0123abcd", "trial", 3)
    assert summary["model"] == "StableDiffusion3 e6116455"
    assert summary["scores"] == ["redness-1.jsonl"]
    assert summary["bytes"] > 1000
    [training] = summary["trainings"]
    assert (training["state"], training["asked"], training["lora"]) == ("unfinished", 9, None)


def test_the_size_is_that_of_all_files_and_grows_with_new_images(output, run):
    before = runs.summary(run)["bytes"]
    assert before == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    write_png(run / "prompts" / digest("stars") / "002.png", Image.new("RGB", (40, 30)))
    after = runs.summary(run)
    assert after["bytes"] == sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    assert after["bytes"] > before


def test_the_graph_of_a_run_is_stored_and_missing_for_runs_of_the_console(output, run):
    assert runs.summary(run)["workflow"] is False
    with pytest.raises(runs.UnknownName, match="not made on the canvas"):
        runs.workflow(run)
    runs.save_workflow(output, run.name, {"id": "x", "nodes": []})
    assert runs.summary(run)["workflow"] is True
    assert runs.workflow(run) == {"id": "x", "nodes": []}


@pytest.mark.parametrize(
    "record",
    [
        "",
        "[]",
        '{"name": NaN, "model": [], "size": NaN}',
        '{"size": [NaN, 64]}',
        '{"name": 7, "model": {"pipeline": {}, "transformer": NaN}, "size": "64"}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_damaged_record_does_not_hide_the_other_runs(output, record):
    odd = output / "gdro" / "odd-00000000"
    training = odd / "train" / "bbbb000000"
    training.mkdir(parents=True)
    for path in (odd / "run.json", training / "config.json", training / "done.json"):
        path.write_bytes(record.encode(errors="surrogateescape"))
    summaries = {summary["run"]: summary for summary in runs.summaries(output)}
    assert summaries["trial-0123abcd"]["name"] == "trial"
    assert (summaries["odd-00000000"]["name"], summaries["odd-00000000"]["size"]) == (
        odd.name,
        None,
    )
    json.dumps(summaries, allow_nan=False)  # browsers reject NaN
    json.dumps(runs.history(training), allow_nan=False)


def test_a_run_that_cannot_be_read_does_not_hide_the_other_runs(output, monkeypatch):
    shutil.copytree(output / "gdro" / "trial-0123abcd", output / "gdro" / "odd-00000000")

    def summary(folder, read=runs.summary):
        if folder.name.startswith("odd"):
            raise PermissionError(13, "permission denied")
        return read(folder)

    monkeypatch.setattr(runs, "summary", summary)
    assert [run["run"] for run in runs.summaries(output)] == ["trial-0123abcd"]


def test_an_empty_output_folder_has_no_runs(tmp_path):
    assert runs.summaries(tmp_path) == []


def test_groups_are_sorted_and_paged(run):
    page = groups.page(run, order="spread", limit=2)
    assert [group["prompt"] for group in page["groups"]] == ["a red circle", "stars"]
    assert (page["total"], page["matching"], page["range"]) == (3, 3, [0, 0.9])
    assert sum(page["histogram"]) == 6
    first = page["groups"][0]
    assert [image["value"] for image in first["images"]] == [0.9, 0.1]
    assert first["images"][0]["details"] == {"n": 1}
    rest = groups.page(run, order="spread", offset=2)
    assert [group["prompt"] for group in rest["groups"]] == ["<img src=x onerror=alert(1)>"]
    assert groups.page(run, order="spread", least_spread=0.3)["matching"] == 2


def test_scores_written_later_are_read(run):
    assert groups.page(run)["range"] == [0, 0.9]
    group = digest("stars")
    row = {"prompt": group, "image": 0, "value": 7.0}
    append_lines(run / "scores" / "redness-1.jsonl", [row])
    assert groups.page(run)["range"] == [0.1, 7.0]


def test_odd_lines_of_a_score_file_are_passed_over(run):
    group = digest("stars")
    values = [(0, math.nan), (0, math.inf), (0, "high"), (1, None), ("x", 1.0), ([], 1.0)]
    rows = [{"prompt": group, "image": image, "value": value} for image, value in values]
    lines = "".join(json.dumps(row) + "\n" for row in [*rows, {"prompt": 3}, {}])  # with NaN
    with open(run / "scores" / "redness-1.jsonl", "a", encoding="utf-8") as file:
        file.write(lines)
    page = groups.page(run, order="mean")
    assert page["range"] == [0, 0.9]
    stars = next(item for item in page["groups"] if item["group"] == group)
    assert [image.get("value") for image in stars["images"]] == [0, None]


def test_images_come_as_thumbnails_or_whole(run):
    group = digest("stars")
    small = Image.open(io.BytesIO(groups.image(run, group, 1, thumbnail=True)))
    assert (small.format, small.size) == ("JPEG", (192, 144))
    whole = Image.open(io.BytesIO(groups.image(run, group, 1, thumbnail=False)))
    assert (whole.format, whole.size) == ("PNG", (400, 300))


@pytest.mark.parametrize(
    "name", ["..", ".", "", "no run", "../gdro/trial-0123abcd", "trial-0123abcd/prompts", "x" * 999]
)
def test_only_listed_runs_can_be_found(output, name):
    with pytest.raises(runs.UnknownName):
        runs.find(output, name)
    with pytest.raises(runs.UnknownName):
        runs.delete(output, name)
    assert (output / "secret.png").is_file()


@pytest.mark.parametrize("name", ["..", "../..", "", ".", "../train/aaaa000000", "0" * 12])
def test_nothing_outside_a_run_can_be_read(run, name):
    calls = [
        lambda: groups.image(run, name, 0, thumbnail=False),
        lambda: groups.page(run, scores=name or ".."),
        lambda: runs.training_folder(run, name),
        lambda: evaluations.read(runs.training_folder(run, "aaaa000000"), name),
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
        pytest.skip("this system does not allow symbolic links")
    with pytest.raises(runs.UnknownName):
        groups.image(run, group.name, 7, thumbnail=False)
    assert list(runs.folders(output)) == ["trial-0123abcd"]


def test_a_history_lists_its_rows_and_images(run):
    folder = runs.training_folder(run, "aaaa000000")
    history = runs.history(folder)
    assert (history["run"], history["rows"]) == ("trial-0123abcd", [{"step": 1, "loss": 0.5}])
    assert (history["samples"], history["validations"], history["base"]) == ([3], [], False)
    assert runs.training_image(folder, "samples", 3).startswith(b"\x89PNG")
    for kind, step in (("samples", 4), ("samples", None), ("validation", None), ("..", 3)):
        with pytest.raises(runs.UnknownName):
            runs.training_image(folder, kind, step)


def image_of(color):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), color).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_pairs_of_an_evaluation_are_images_of_its_rollouts(run):
    training = runs.training_folder(run, "aaaa000000")
    group = digest("stars")
    for rollout, color in (("base-1", "red"), ("aligned-1", "blue")):
        folder = training / "evaluations" / "rollouts" / rollout / "prompts" / group
        folder.mkdir(parents=True)
        (folder / "000.png").write_bytes(image_of(color))
    evaluation = training / "evaluations" / "e0"
    evaluation.mkdir()
    record = {
        "results": [],
        "rollouts": ["base-1", "aligned-1", "../../../.."],
        "pairs": [
            {"place": 0, "prompt": "stars", "group": group},
            {"place": 1, "prompt": "x", "group": f"../{group}"},
        ],
    }
    write_json(evaluation / "result.json", record)
    assert evaluations.read(training, "e0")["pairs"] == record["pairs"]
    assert evaluations.image(training, "e0", 0, 0) == image_of("red")
    assert evaluations.image(training, "e0", 0, 1) == image_of("blue")
    for pair, model in ((0, 2), (0, 3), (1, 0), (2, 0)):
        with pytest.raises(runs.UnknownName):
            evaluations.image(training, "e0", pair, model)
    with pytest.raises(runs.UnknownName):
        evaluations.read(training, "rollouts")


def test_the_pairs_of_an_old_evaluation_are_files(run):
    training = runs.training_folder(run, "aaaa000000")
    pairs = training / "evaluations" / "e0" / "pairs"
    pairs.mkdir(parents=True)
    write_json(
        pairs.parent / "result.json", {"results": [], "pairs": [{"place": 0, "prompt": "x"}]}
    )
    (pairs / "000_1.png").write_bytes(image_of("green"))
    assert evaluations.image(training, "e0", 0, 1) == image_of("green")


def test_delete_removes_the_run_and_nothing_else(output):
    runs.delete(output, "trial-0123abcd")
    assert {path.name for path in (output / "gdro").iterdir()} == {"secret.png", "no run"}


def test_commands_reach_only_an_unfinished_training(run):
    folder = runs.training_folder(run, "aaaa000000")
    with pytest.raises(InputError, match="unknown"):
        commands.send(folder, "../stop")
    commands.send(folder, "stop")
    assert commands.CommandWatcher(folder, lambda trainer: None)(None, {}) is False, (
        "an old command counted"
    )
    saved = []
    watcher = commands.CommandWatcher(folder, saved.append)
    commands.send(folder, "save")
    row = {}
    assert watcher("trainer", row) is False
    assert (saved, row) == (["trainer"], {"saved": True})
    commands.send(folder, "stop")
    assert watcher("trainer", {}) is True
    assert watcher("trainer", {}) is False
    (folder / "done.json").write_text(json.dumps({"lora": "x", "steps": 3}))
    with pytest.raises(InputError, match="has ended"):
        commands.send(folder, "stop")


def test_a_prompt_that_is_only_encoded_is_no_group_yet(run):
    encoded = run / "prompts" / digest("only encoded")
    encoded.mkdir()
    write_json(encoded / "prompt.json", {"text": "only encoded"})
    (encoded / "conditioning.safetensors").write_bytes(b"encoded")
    page = groups.page(run)
    assert (page["total"], page["matching"], runs.summary(run)["groups"]) == (3, 3, 3)
    assert "only encoded" not in [group["prompt"] for group in page["groups"]]
    write_png(encoded / "000.png", Image.new("RGB", (8, 8)))
    assert (groups.page(run)["total"], runs.summary(run)["groups"]) == (4, 4)


def test_without_scores_the_latest_groups_come_first(run):
    prompts = ["newest", "new", *GROUPS]
    for age, prompt in enumerate(prompts):
        group = run / "prompts" / digest(prompt)
        group.mkdir(exist_ok=True)
        write_json(group / "prompt.json", {"text": prompt})
        write_png(group / "000.png", Image.new("RGB", (8, 8)))
        os.utime(group, (2_000_000_000 - age, 2_000_000_000 - age))
    page = groups.page(run, order="spread")
    assert [group["prompt"] for group in page["groups"]][3:] == ["newest", "new"]
    (run / "scores" / "redness-1.jsonl").unlink()
    for order in ("spread", "mean", "best", "latest"):
        page = groups.page(run, order=order, least_spread=0.3)
        assert [group["prompt"] for group in page["groups"]] == prompts
