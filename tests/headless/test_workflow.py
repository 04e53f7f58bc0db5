"""Workflow files without ComfyUI: both formats, what runs, and what is refused."""

import json
import sys
from pathlib import Path

import pytest

from gdro_comfy.errors import InputError
from gdro_comfy.headless import workflow
from gdro_comfy.headless.workflow_file import Link
from gdro_comfy.progress import Cancelled
from gdro_comfy.stages.base import Input, Output, Stage
from gdro_comfy.stages.inputs import complete, nest

RAN = []


def _make(host, kind, seed):
    RAN.append("make")
    return ({**kind, "seed": seed},)


def _show(host, thing, note=None):
    RAN.append("show")
    if thing["seed"] == 13:
        raise RuntimeError("unlucky")
    if thing["seed"] == 14:
        raise InputError("thing", "it is the fourteenth", "Use another.")
    return (str(thing),)


KIND = Input(
    "kind",
    "DYNAMICCOMBO",
    choices={
        "plain": (),
        "fancy": (
            Input("size", "INT", default=3, min=1, max=9),
            Input("look", "COMBO", default="red", options=("red", "blue")),
        ),
    },
)
STAGES = {
    "Make": Stage(
        _make,
        "Make",
        "",
        (KIND, Input("seed", "INT", default=0, min=0)),
        (Output("thing", "THING"),),
    ),
    "Show": Stage(
        _show,
        "Show",
        "",
        (Input("thing", "THING"), Input("note", "STRING", optional=True)),
        (Output("text", "STRING"),),
        True,
    ),
}


@pytest.fixture(autouse=True)
def fresh():
    RAN.clear()


def api(seed=1, **inputs):
    kind = {"kind": "fancy", "kind.size": 5, "kind.look": "blue"}
    return {
        "1": {"class_type": "Make", "inputs": {**kind, "seed": seed, **inputs}},
        "2": {"class_type": "Show", "inputs": {"thing": ["1", 0]}, "_meta": {"title": "The end"}},
    }


def ui(widgets=("fancy", 5, "blue", 7, "randomize"), **changes):
    make = {
        "id": 1, "type": "Make", "mode": 0, "widgets_values": list(widgets), "inputs": [],
        "outputs": [{"name": "thing", "type": "THING", "links": [9]}],
    }  # fmt: skip
    show = {
        "id": 2, "type": "Show", "mode": 0, "outputs": [],
        "inputs": [{"name": "thing", "type": "THING", "link": 9}],
    }  # fmt: skip
    note = {"id": 3, "type": "MarkdownNote", "widgets_values": ["hello"], "mode": 0}
    document = {"nodes": [note, show, make], "links": [[9, 1, 0, 2, 0, "THING"]], "version": 0.4}
    return {**document, **changes}


def load(tmp_path, document):
    path = tmp_path / "workflow.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return workflow.load(path, STAGES)


def run(tmp_path, host, document):
    return workflow.run(load(tmp_path, document), host, STAGES)


def test_both_formats_give_the_same_result(tmp_path, host):
    expected = {"kind": "fancy", "size": 5, "look": "blue", "seed": 7}
    assert run(tmp_path, host, api(seed=7))["1"] == (expected,)
    assert run(tmp_path, host, ui())["1"] == (expected,)
    assert run(tmp_path, host, {"prompt": api(seed=7)})["1"] == (expected,)


def test_links_as_objects_are_read(tmp_path, host):
    link = {"id": 9, "origin_id": 1, "origin_slot": 0, "target_id": 2, "target_slot": 0}
    assert "2" in run(tmp_path, host, ui(links=[link]))


def test_a_choice_without_inputs_has_fewer_widgets(tmp_path, host):
    thing = run(tmp_path, host, ui(widgets=("plain", 4)))["1"][0]
    assert thing == {"kind": "plain", "seed": 4}


def test_only_nodes_that_lead_to_an_output_run_and_each_once(tmp_path, host):
    document = api()
    document["3"] = {"class_type": "Make", "inputs": {"kind": "plain", "seed": 2}}
    document["4"] = {"class_type": "Show", "inputs": {"thing": ["1", 0]}}
    done = run(tmp_path, host, document)
    assert set(done) == {"1", "2", "4"}
    assert RAN == ["make", "show", "show"]


def test_nodes_run_in_inference_mode_as_in_comfyui(tmp_path, host):
    import torch

    modes = []
    stages = {**STAGES, "Show": Stage(lambda h, thing, note: modes.append(torch.is_inference_mode_enabled())
              or ("",), "Show", "", STAGES["Show"].inputs, STAGES["Show"].outputs, True)}  # fmt: skip
    workflow.run(load(tmp_path, api()), host, stages)
    assert modes == [True]


def test_a_muted_output_leaves_nothing_to_run(tmp_path, host):
    document = ui()
    document["nodes"][1]["mode"] = 2
    with pytest.raises(InputError, match="it has no output node"):
        run(tmp_path, host, document)


def test_a_muted_source_is_named_as_missing(tmp_path, host):
    document = ui()
    document["nodes"][2]["mode"] = 2
    with pytest.raises(InputError, match=r"Show \(node 2\), thing: nothing is connected"):
        run(tmp_path, host, document)


def test_a_reroute_is_followed(tmp_path, host):
    document = ui()
    document["nodes"].append(
        {"id": 5, "type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 9}],
         "outputs": [{"name": "", "type": "THING", "links": [10]}]}
    )  # fmt: skip
    document["nodes"][1]["inputs"][0]["link"] = 10
    document["links"] = [[9, 1, 0, 5, 0, "*"], [10, 5, 0, 2, 0, "THING"]]
    assert load(tmp_path, document)["2"].inputs["thing"] == Link("1", 0)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is not JSON"),
        ("[1, 2]", "not a ComfyUI workflow"),
        ({"nodes": "x"}, "not a ComfyUI workflow"),
        ({"nodes": [{"id": 1}], "links": []}, 'lacks "id" or "type"'),
        ({**api(), "3": {"class_type": "KSampler", "inputs": {}}}, "do not run here: KSampler"),
        ({"1": api()["1"]}, "it has no output node"),
        (api() | {"2": {"class_type": "Show", "inputs": {"thing": ["8", 0]}}}, "node 8, which does not"),
        (api() | {"2": {"class_type": "Show", "inputs": {"thing": ["1", 3]}}}, "linked to output 3 of Make"),
        (api() | {"2": {"class_type": "Show", "inputs": {"thing": ["2", 0]}}}, "form a cycle: Show"),
        (api(seed=-1), "seed: -1 does not fit.*0 or more"),
        (api(seed="many"), "seed: 'many' does not fit"),
        (api(**{"kind.size": 10}), r"kind\.size: 10 does not fit.*from 1 to 9"),
        (api(**{"kind.look": "green"}), "one of: red, blue"),
        (api(kind="odd"), "one of: plain, fancy"),
        ({"2": {"class_type": "Show", "inputs": {}}}, "thing: nothing is connected"),
        ({"2": {"class_type": "Show", "inputs": {"thing": ["5", 0]}},
          "5": {"class_type": "Show", "inputs": {"thing": ["1", 0]}}, "1": api()["1"]}, "linked to a STRING"),
    ],
)  # fmt: skip
def test_faulty_workflows_are_refused_before_anything_runs(tmp_path, host, document, message):
    with pytest.raises(InputError, match=message):
        run(tmp_path, host, document)
    assert RAN == []


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        workflow.load(tmp_path / "none.json", STAGES)


def test_a_failing_node_is_named_and_its_cause_chained(tmp_path, host):
    with pytest.raises(workflow.NodeError, match=r"The end \(node 2\) failed: unlucky") as caught:
        run(tmp_path, host, api(seed=13))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(InputError, match=r"The end \(node 2\), thing: it is the fourteenth"):
        run(tmp_path, host, api(seed=14))


def test_cancelling_stops_between_nodes(tmp_path, host):
    host.cancel_after = 1
    with pytest.raises(Cancelled):
        run(tmp_path, host, api())
    assert RAN == ["make"]


@pytest.mark.parametrize("name", ["1", "Make"])
def test_inputs_can_be_changed(tmp_path, name):
    graph = load(tmp_path, api())
    workflow.override(graph, f"{name}.kind.size=8", STAGES)
    workflow.override(graph, f"{name}.kind.look=red", STAGES)
    assert graph["1"].inputs["kind.size"] == 8
    assert graph["1"].inputs["kind.look"] == "red"
    workflow.override(graph, "The end.note=a = b", STAGES)
    assert graph["2"].inputs["note"] == "a = b"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "is not a setting"),
        ("Nobody.seed=1", "no node is called 'Nobody'.*Make, Show"),
        ("Make.sed=1", "has no input 'sed'.*seed"),
        ("Show.thing=1", "'Show' names 2 nodes: .*Use the id or the title"),
    ],
)
def test_changes_of_unknown_inputs_are_refused(tmp_path, setting, message):
    another = {"class_type": "Show", "inputs": {"thing": ["1", 0]}}
    document = api() | {"3": another, "4": another}
    with pytest.raises(InputError, match=message):
        workflow.override(load(tmp_path, document), setting, STAGES)


def test_growing_inputs_are_collected():
    declared = (Input("rewards", "GDRO_REWARD"),)
    flat = {"rewards.reward0": 1, "rewards.reward1": 2}
    assert nest(declared, flat) == {"rewards": {"reward0": 1, "reward1": 2}}


def test_defaults_are_filled_in():
    assert complete((KIND,), {"kind": {"kind": "fancy"}}) == {
        "kind": {"kind": "fancy", "size": 3, "look": "red"}
    }


def test_a_missing_library_is_refused_before_anything_is_drawn(host, monkeypatch):
    """The OCR reward stands behind the rollout in the graph, and is asked first all the same."""
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    graph = workflow.load(Path(__file__).parents[2] / "workflows" / "teach_it_to_write.json")
    with pytest.raises(InputError, match="RapidOCR cannot be used .*-m pip install rapidocr"):
        workflow.run(graph, host)
    assert not list(host.output_dir.rglob("*"))
    assert not host.events
