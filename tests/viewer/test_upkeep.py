"""What the runs tab asks of a run's health: damage by name, and what is left over with sizes."""

import json

import pytest
import torch
from PIL import Image

from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.data.runs import Run, RunSettings
from gdro_comfy.viewer import upkeep
from gdro_comfy.viewer.runs import UnknownName


@pytest.fixture
def group(tmp_path):
    group = Run.open(tmp_path, "cats", RunSettings({"id": 1}, 8, 1.0, (8, 8), 0)).group(
        Prompt("a cat")
    )
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(3)]
    group.add(0, torch.zeros(3, 4, 1, 1), images, BatchedConditioning({"hidden": torch.ones(1, 3)}))
    return group


def test_damage_is_told_by_name_and_set_aside_on_demand(group, tmp_path):
    run = group.folder.parents[1]
    intact = upkeep.check(tmp_path, run.name, tmp_path)
    assert intact == {"run": run.name, "intact": 7, "unknown": 0, "findings": []}
    data = group.image_path(1).read_bytes()
    group.image_path(1).write_bytes(data[:-20] + bytes([data[-20] ^ 1]) + data[-19:])
    group.image_path(2).unlink()
    found = upkeep.check(tmp_path, run.name, tmp_path)["findings"]
    files = [f"prompts/{group.folder.name}/00{index}.png" for index in (1, 2)]
    assert [(finding["file"], finding["found"]) for finding in found] == [
        (files[0], "damaged"),
        (files[1], "gone"),
    ]
    assert all(finding["remade"] for finding in found)
    answer = upkeep.set_damaged_aside(tmp_path, run.name, tmp_path)
    assert answer["set_aside"] == 1
    assert group.state().lost == (1, 2)
    json.dumps(answer)


def test_what_is_left_over_has_sizes_and_is_deleted_on_demand(group, tmp_path):
    (group.folder / ".000.png.1-a.part").write_bytes(b"12345")
    listed = upkeep.left_over(tmp_path, tmp_path / "loras")
    assert listed["bytes"] == 5
    assert [entry["kind"] for entry in listed["leftovers"]] == ["unfinished write"]
    assert upkeep.left_over(tmp_path, tmp_path / "loras", delete=True) == {**listed, "problems": []}
    assert upkeep.left_over(tmp_path, tmp_path / "loras")["leftovers"] == []
    assert group.count() == 3


def test_a_run_is_named_and_never_a_path(tmp_path):
    with pytest.raises(UnknownName):
        upkeep.check(tmp_path, "../x", tmp_path)
