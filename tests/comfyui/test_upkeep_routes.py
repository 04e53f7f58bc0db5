"""The routes that verify runs and list or delete leftovers, in a real ComfyUI."""

import json
import os
import shutil
import time

import pytest
import torch
from comfyui_server import ask
from PIL import Image

from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.data.damage import SET_ASIDE
from gdro_comfy.data.files import append_lines, write_tensors
from gdro_comfy.data.leftovers import DELETED
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.data.run_lock import writing
from gdro_comfy.data.runs import Run, RunSettings
from gdro_comfy.data.trainings import Training

LEFTOVERS = "/gdro/leftovers"
JSON = {"Content-Type": "application/json"}
SECRET = "secret-and-outside"


@pytest.fixture
def group(server):
    """A group of three pictures in a run with an unfinished training of one step."""
    run = Run.open(server.base / "output", "upkeep", RunSettings({"id": 1}, 8, 1.0, (8, 8), 0))
    group = run.group(Prompt("a cat"))
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(3)]
    group.add(0, torch.zeros(3, 4, 1, 1), images, BatchedConditioning({"hidden": torch.ones(1, 3)}))
    folder = group.folder.parents[1]
    training = folder / "train" / "aaaa000000"
    training.mkdir(parents=True)
    append_lines(training / "history.jsonl", [{"step": 1, "loss": 0.5}])
    write_tensors(training / "checkpoint.safetensors", {"weight": torch.ones(64)})
    yield group
    shutil.rmtree(folder, ignore_errors=True)


def folder_of(group):
    return group.folder.parents[1]


def route(group):
    return f"/gdro/runs/{folder_of(group).name}/verify"


def link(path, target):
    try:
        path.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this system does not allow symbolic links")


def flip(path):
    """Change one bit in the last quarter of a file, where its pixels or tensors lie."""
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)


def content(folder):
    """Return the files below a folder with their bytes; the lock's own file comes and goes."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "lock" not in path.name
    }


def test_a_sound_run_has_no_findings_and_is_left_as_it_is(server, group):
    before = content(folder_of(group))
    status, kind, body = ask(server, "GET", route(group))
    assert (status, kind.split(";")[0]) == (200, "application/json")
    report = json.loads(body)
    assert (report["run"], report["findings"]) == (folder_of(group).name, [])
    assert report["intact"] == len(before)
    status, _, body = ask(server, "POST", route(group), b"{}", JSON)
    assert (status, json.loads(body)) == (200, {**report, "set_aside": 0})
    assert content(folder_of(group)) == before


def test_a_damaged_picture_is_named_and_set_aside_only_on_demand(server, group):
    flip(group.image_path(1))
    before = content(folder_of(group))
    [finding] = server.get(route(group))["findings"]
    assert finding["file"] == f"prompts/{group.folder.name}/001.png"
    assert (finding["found"], finding["remade"]) == ("damaged", True)
    assert content(folder_of(group)) == before
    status, _, body = ask(server, "POST", route(group), b"{}", JSON)
    assert (status, json.loads(body)["set_aside"]) == (200, 1)
    assert not group.image_path(1).exists()
    [kept] = group.folder.glob(f"{SET_ASIDE}*")
    assert kept.name in [entry["file"] for entry in server.get(LEFTOVERS)["leftovers"]]


def test_a_damaged_checkpoint_is_named_and_stays_where_it_is(server, group):
    """No run makes a checkpoint anew, so what to do with it is for the user to decide."""
    checkpoint = Training(folder_of(group) / "train" / "aaaa000000").checkpoint
    flip(checkpoint)
    damaged = checkpoint.read_bytes()
    [finding] = server.get(route(group))["findings"]
    assert finding["file"] == "train/aaaa000000/checkpoint.safetensors"
    assert not finding["remade"]
    assert "put a copy in its place" in finding["remedy"]
    status, _, body = ask(server, "POST", route(group), b"{}", JSON)
    assert (status, json.loads(body)["set_aside"]) == (200, 0)
    assert checkpoint.read_bytes() == damaged


def test_a_gone_run_and_paths_are_unknown(server, group):
    outside = server.base / "output" / "outside"
    shutil.copytree(folder_of(group), outside)
    flip(outside / "prompts" / group.folder.name / "001.png")
    before = content(outside)
    name = folder_of(group).name
    linked = server.base / "output" / "gdro" / "linked-00000000"
    link(linked, outside)
    try:
        for wrong in ("gone-00000000", "..%2foutside", "%2e%2e", f"{name}%2f..%2f..%2foutside",
                      "..%5coutside", "%00", linked.name):  # fmt: skip
            for method, body in (("GET", None), ("POST", b"{}")):
                status = ask(server, method, f"/gdro/runs/{wrong}/verify", body, JSON)[0]
                assert status == 404, (wrong, method)
        assert content(outside) == before
    finally:
        linked.unlink()
        shutil.rmtree(outside)
    shutil.rmtree(folder_of(group))
    status, _, body = ask(server, "GET", route(group))
    assert status == 404
    assert name in json.loads(body)["error"]


@pytest.mark.parametrize(
    "name", ["workflow.json", "ratings.jsonl", "train/aaaa000000/config.json", "GROUP/001.png"]
)
def test_links_inside_a_run_tell_nothing_of_what_they_lead_to(server, group, name):
    path = folder_of(group) / name.replace("GROUP", f"prompts/{group.folder.name}")
    outside = server.base / "outside.txt"
    outside.write_text(f'{{"a": {SECRET}}}\n{{"b"}}\n', encoding="utf-8")
    path.unlink(missing_ok=True)
    link(path, outside)
    before = outside.read_bytes()
    linked = server.get(route(group))
    assert SECRET not in json.dumps(linked)
    assert ask(server, "POST", route(group), b"{}", JSON)[0] == 200
    assert outside.read_bytes() == before


DAMAGE = [
    b"",
    b"[1]",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"text": "\\ud800"}',
    b'{"seed": NaN}',
    b"{}\n3",
]
FILES = [
    "run.json", "workflow.json", "ratings.jsonl", "scores/redness.jsonl", "GROUP/prompt.json",
    "GROUP/latents.safetensors", "GROUP/conditioning.safetensors", "GROUP/000.png",
    "train/aaaa000000/config.json", "train/aaaa000000/history.jsonl", "train/aaaa000000/done.json",
    "train/aaaa000000/checkpoint.safetensors", "train/aaaa000000/samples/step_00001.png",
    "train/aaaa000000/validation/step_00001.json", "train/aaaa000000/evaluations/eeee/result.json",
]  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_no_content_of_a_file_is_an_error_of_the_server(server, group, name):
    path = folder_of(group) / name.replace("GROUP", f"prompts/{group.folder.name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    for data in DAMAGE:
        path.write_bytes(data)
        status, _, body = ask(server, "GET", route(group))
        assert status == 200, (data[:20], body[:300])
        files = [finding["file"] for finding in json.loads(body)["findings"]]
        if path.suffix != ".jsonl" and data in (b"", b"[1]"):
            assert path.relative_to(folder_of(group)).as_posix() in files, data
        path.unlink()


def test_leftovers_are_listed_with_sizes_and_deleted(server, group):
    root = folder_of(group).parent
    (group.folder / ".000.png.1-a.part").write_bytes(b"12345")
    gone = root / f"{DELETED}gone-00000000"
    (gone / "prompts").mkdir(parents=True)
    (gone / "prompts" / "x").write_bytes(b"123")
    loras = server.base / "models" / "loras" / "gdro"
    loras.mkdir(exist_ok=True)
    old, young = loras / ".old.safetensors.1-a.part", loras / ".new.safetensors.1-a.part"
    for path in (old, young):
        path.write_bytes(b"1")
    hours_ago = time.time() - 7200
    os.utime(old, (hours_ago, hours_ago))
    before = content(folder_of(group))
    listed = server.get(LEFTOVERS)
    assert {
        (entry["file"], entry["kind"], entry["bytes"]) for entry in listed["leftovers"]
    } >= {(".000.png.1-a.part", "unfinished write", 5), (gone.name, "deleted run", 3),
          (old.name, "unfinished write", 1)}  # fmt: skip
    assert listed["bytes"] == sum(entry["bytes"] for entry in listed["leftovers"])
    assert young.name not in json.dumps(listed)
    assert content(folder_of(group)) == before

    for method in ("POST", "PUT"):
        assert ask(server, method, LEFTOVERS, b"{}", JSON)[0] == 405
    status, _, body = ask(server, "DELETE", LEFTOVERS)
    deleted = json.loads(body)
    assert (status, deleted["bytes"], deleted["problems"]) == (200, listed["bytes"], [])
    assert sorted(map(str, deleted["leftovers"])) == sorted(map(str, listed["leftovers"]))
    assert not gone.exists()
    assert not old.exists()
    assert young.exists()
    young.unlink()
    assert server.get(LEFTOVERS)["leftovers"] == []
    assert json.loads(ask(server, "GET", route(group))[2])["findings"] == []


def test_a_run_at_work_keeps_what_is_in_it(server, group):
    part = group.folder / ".000.png.1-a.part"
    part.write_bytes(b"12345")
    flip(group.image_path(1))
    with writing(folder_of(group)):
        status, _, body = ask(server, "DELETE", LEFTOVERS)
        assert status == 200
        assert part.name not in json.dumps(json.loads(body)["leftovers"])
        assert json.loads(body)["problems"]
        status, _, body = ask(server, "POST", route(group), b"{}", JSON)
        assert status == 400
        assert json.loads(body)["error"]
    assert part.exists()
    assert group.image_path(1).exists()


def test_a_page_without_an_origin_may_only_read(server, group):
    flip(group.image_path(1))
    part = group.folder / ".000.png.1-a.part"
    part.write_bytes(b"12345")
    before, sent = content(folder_of(group)), {**JSON, "Origin": "null"}
    assert ask(server, "POST", route(group), b"{}", sent)[0] == 403
    assert ask(server, "DELETE", LEFTOVERS, None, sent)[0] == 403
    assert content(folder_of(group)) == before
    own = {**JSON, "Origin": server.url.rstrip("/")}
    assert ask(server, "DELETE", LEFTOVERS, None, own)[0] == 200
    assert not part.exists()


def test_setting_aside_takes_only_json(server, group):
    flip(group.image_path(1))
    assert ask(server, "POST", route(group), b"{}", {"Content-Type": "text/plain"})[0] == 415
    assert ask(server, "POST", route(group), b"[]", JSON)[0] == 400
    assert ask(server, "DELETE", route(group))[0] == 405
    assert group.image_path(1).exists()
