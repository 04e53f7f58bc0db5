"""Two consoles on one output folder, and one that is killed: nothing is mixed, nothing is lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_reward import RednessReward
from small_training import OBJECTIVE, PROMPTS, config, scored
from writing_process import other_process

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig
from gdro_comfy.importing.import_groups import ImportConfig, import_groups
from gdro_comfy.importing.sources import from_images
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.train import train

ROOT = Path(__file__).parents[2]
GRAPH = {
    "1": {"class_type": "GDRO_LoadBaseModel", "inputs": {}},
    "2": {"class_type": "GDRO_PromptSet", "inputs": {}},
    "3": {
        "class_type": "GDRO_GroupRollout",
        "inputs": {
            "model": ["1", 0], "prompts": ["2", 0], "images_per_prompt": 40, "steps": 4,
            "batch_size": 2, "run_name": "shared",
        },
    },
}  # fmt: skip


@pytest.fixture
def graph(tmp_path):
    quickstart = json.loads((ROOT / "workflows" / "quickstart.json").read_text(encoding="utf-8"))
    shipped = {node["type"]: node.get("widgets_values_named") for node in quickstart["nodes"]}
    wanted = json.loads(json.dumps(GRAPH))
    wanted["1"]["inputs"] = shipped["GDRO_LoadBaseModel"]
    wanted["2"]["inputs"] = {**shipped["GDRO_PromptSet"], "limit": 3}
    path = tmp_path / "graph.json"
    path.write_text(json.dumps(wanted))
    return path


@contextlib.contextmanager
def console(graph, output):
    """Run the graph on a console, which is killed if it has not ended by then."""
    command = [sys.executable, "-m", "gdro_comfy", "run", str(graph), "--quiet", "--output", output]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def groups(output):
    """Return the latents and seeds of every group."""
    found = sorted(output.glob("gdro/shared-*/prompts/*"))
    assert all(
        [path.name for path in folder.glob("latents*")] == ["latents.safetensors"]
        for folder in found
    )
    assert all(len(list(folder.glob("*.png"))) == 40 for folder in found)
    return {folder.name: load_file(folder / "latents.safetensors") for folder in found}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows stops no process in the middle")
def test_a_second_console_is_refused_and_a_killed_one_is_resumed(graph, tmp_path):
    output, alone = tmp_path / "output", tmp_path / "alone"
    with console(graph, alone) as undisturbed:
        assert undisturbed.wait(300) == 0

    with console(graph, output) as first:
        until = time.monotonic() + 120
        while not list(output.glob("gdro/shared-*/prompts/*/latents*")):
            assert time.monotonic() < until
            assert first.poll() is None
            time.sleep(0.02)
        # Stopped, so that it is in the middle for as long as the second needs.
        first.send_signal(signal.SIGSTOP)
        with console(graph, output) as second:
            _, said = second.communicate(timeout=60)
        assert second.returncode == 2
        assert f"is being written by process {first.pid} " in said
        first.kill()

    assert len(list(output.glob("gdro/shared-*/.writer.json"))) == 1
    with console(graph, output) as third:
        _, said = third.communicate(timeout=300)
    assert third.returncode == 0, said
    assert f"process {first.pid} " in said
    assert "was killed" in said
    assert not list(output.glob("gdro/shared-*/.writer.json"))
    resumed, expected = groups(output), groups(alone)
    assert resumed.keys() == expected.keys()
    for name, tensors in expected.items():
        assert (resumed[name]["seeds"] == tensors["seeds"]).all()
        assert (resumed[name]["latents"] == tensors["latents"]).all(), name


def files(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".writer")
    }


def test_every_stage_that_writes_is_refused_before_it_writes(host, bundled_model):
    rollout = scored(host, bundled_model)
    lora = train(host, bundled_model, rollout, OBJECTIVE, config())
    heldout, small = from_text("one red star\ntwo red squares"), EvaluationConfig(1, 2)
    evaluated = evaluate(host, bundled_model, lora, heldout, RednessReward(), small)
    source = from_images([torch.rand(2, 64, 64, 3)], ["a red star"])
    imported = import_groups(host, bundled_model, source, ImportConfig(steps=1)).rollout
    more = RolloutConfig(images_per_prompt=6, steps=2, run_name="trial")
    writers = {
        "rollout": lambda: sample_rollout(host, bundled_model, PROMPTS, more),
        "scoring": lambda: score_rollout(host, rollout, RednessReward(2.0)),
        "training": lambda: train(host, bundled_model, rollout, OBJECTIVE, config(steps=7)),
        "evaluation": lambda: evaluate(
            host, bundled_model, lora, heldout, RednessReward(2.0), small
        ),
    }
    before = files(host.output_dir)
    with other_process(rollout.run.folder) as other:
        for name, write in writers.items():
            with pytest.raises(InputError, match=f"process {other.pid} "):
                write()
            assert files(host.output_dir) == before, name
        # What is finished is only read.
        again = train(host, bundled_model, rollout, OBJECTIVE, config())
        assert again.path == lora.path
        same = evaluate(host, bundled_model, lora, heldout, RednessReward(), small)
        assert same.results == evaluated.results
    with (
        other_process(imported.run.folder) as other,
        pytest.raises(InputError, match=f"process {other.pid} "),
    ):
        import_groups(host, bundled_model, source, ImportConfig(steps=1))
    assert files(host.output_dir) == before
    for write in writers.values():
        write()
