"""The command line, and every shipped workflow run through it."""

import json
import shutil
from pathlib import Path

import pytest

from gdro_comfy.headless import cli, workflow
from gdro_comfy.models import loading

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "workflows").glob("*.json"))
QUICKSTART = ROOT / "workflows" / "quickstart.json"
SMALL = [
    "Prompts to learn on.limit=4",
    "Prompts it has not seen.limit=3",
    "GDRO_GroupRollout.images_per_prompt=4",
    "GDRO_GroupRollout.steps=2",
    "GDRO_TrainLoRA.algorithm.group_size=3",
    "GDRO_TrainLoRA.steps=4",
    "GDRO_TrainLoRA.groups_per_step=2",
    "GDRO_EvaluateAlignment.images_per_prompt=1",
    "GDRO_EvaluateAlignment.steps=2",
]
OF_COMFYUI = {
    "CLIPLoader", "CLIPTextEncode", "CheckpointLoaderSimple", "DualCLIPLoader", "EmptySD3LatentImage",
    "KSampler", "ModelSamplingAuraFlow", "UNETLoader", "VAEDecode", "VAELoader",
}  # fmt: skip
"""Nodes of ComfyUI in the shipped workflows that need ComfyUI."""


def small():
    return [part for setting in SMALL for part in ("--set", setting)]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_workflows_are_valid(path, capsys):
    code = cli.main(["run", str(path), "--check"])
    shown = capsys.readouterr()
    nodes = {node["type"] for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]}
    comfyuis = sorted(nodes & OF_COMFYUI)
    if comfyuis:
        assert code == 2
        assert f"do not run here: {', '.join(comfyuis)}" in shown.err
    else:
        assert code == 0
        assert "no problems found" in shown.out
    assert path.with_suffix(".jpg").is_file()


def test_a_real_model_without_a_file_is_refused_with_those_that_there_are(
    tmp_path, capsys, monkeypatch
):
    networks = tmp_path / "models" / "diffusion_models"
    networks.mkdir(parents=True)
    bundled = loading.bundled_folder() / "transformer" / "diffusion_pytorch_model.safetensors"
    shutil.copy(bundled, networks / "mine.safetensors")
    (networks / "notes.safetensors").write_text("no model")
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    output = tmp_path / "output"
    single = ["--set", "GDRO_LoadBaseModel.source=single files"]
    assert cli.main(["run", str(QUICKSTART), "--output", str(output), "--quiet", *single]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "GDRO Load Base Model (node 2), transformer: no file is chosen" in message
    assert message.endswith("There is: mine.safetensors.")
    assert not output.exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_workflows_contain_no_paths_or_hosts_of_a_machine(path):
    text = path.read_text()
    assert not any(
        trace in text for trace in ("/home/", "/root/", "C:\\\\", "localhost", "127.0.0.1")
    )


def test_the_demo_runs_and_prints_its_table(tmp_path, capsys):
    code = cli.main(["demo", "--output", str(tmp_path), "--quiet", *small()])
    out = capsys.readouterr().out
    assert code in (0, 1)  # this little training may or may not help
    result = json.loads(next(tmp_path.rglob("result.json")).read_text())["results"][0]
    comparison = result["comparison"]
    rose = comparison["gain"] - 1.96 * comparison["gain_error"] > 0
    assert code == (0 if rose else 1)
    assert "base" in out
    assert "aligned" in out
    assert (tmp_path / "before_after.png").is_file()
    loras = list((tmp_path / "loras").rglob("*.safetensors"))
    assert len(loras) == 1
    assert str(loras[0]) in out


def test_a_second_run_writes_nothing(tmp_path, capsys, caplog):
    command = ["run", str(QUICKSTART), "--output", str(tmp_path), "--quiet", *small()]
    assert cli.main(command) == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "gdro").rglob("*") if p.is_file()}
    assert cli.main(command) == 0
    assert {
        p: p.stat().st_mtime_ns for p in (tmp_path / "gdro").rglob("*") if p.is_file()
    } == before
    assert "same seeds" in capsys.readouterr().out
    assert "this training is finished already" in caplog.text, "the engine's log is not shown"


def test_a_workflow_waits_for_ratings_and_continues(tmp_path, capsys):
    path = ROOT / "workflows" / "rate_by_hand.json"
    command = ["run", str(path), "--output", str(tmp_path), "--quiet", *small()]
    assert cli.main(command) == 2
    message = capsys.readouterr().err
    assert "Rate here (node " in message
    assert "0 of 4 groups rated, and 4 are needed. Rate more of taste-" in message
    assert "Traceback" not in message
    assert not list(tmp_path.rglob("*.safetensors.part")) + list((tmp_path / "loras").rglob("*.*"))
    table, output = tmp_path / "ratings.csv", ["--output", str(tmp_path)]
    assert cli.main(["rate", "taste", str(table), "--template", *output]) == 0
    lines = table.read_text(encoding="utf-8-sig").splitlines()
    rated = [lines[0], *(f"{line}{1 + i % 4}" for i, line in enumerate(lines[1:]))]
    table.write_text("\n".join(rated), encoding="utf-8")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.png")}
    assert cli.main(["rate", "taste", str(table), *output]) == 0
    assert cli.main(command) == 0
    assert "16 of 16 pictures rated; 4 of 4 groups" in capsys.readouterr().out
    assert len(list((tmp_path / "loras").rglob("*.safetensors"))) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before, "images were sampled again"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing.json"], "workflow: nothing.json cannot be read"),
        (["demo", "--set", "nonsense"], "--set: 'nonsense' is not a setting"),
        (["demo", "--set", "GDRO_GroupRollout.width=60"], "GDRO Group Rollout (node 4), width: 60"),
    ],
)
def test_mistakes_are_reported_without_a_traceback(tmp_path, capsys, arguments, message):
    assert cli.main([*arguments, "--output", str(tmp_path), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_ctrl_c_stops_and_says_how_to_continue(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(workflow, "run", interrupted)
    assert cli.main(["demo", "--output", str(tmp_path)]) == 130
    assert "Run the same command again" in capsys.readouterr().err


def test_nodes_are_listed(capsys):
    assert cli.main(["nodes"]) == 0
    assert "GDRO_TrainLoRA" in capsys.readouterr().out
