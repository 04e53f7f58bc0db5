"""Several processes on one workflow: what one makes, each image once, and one end for all."""

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

from gdro_comfy import distributed
from gdro_comfy.errors import InputError
from gdro_comfy.headless import cli, several, workflow
from gdro_comfy.headless.workflow_file import Link

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "workflows" / "quickstart.json"
SMALL = [
    part
    for setting in (
        "Prompts to learn on.limit=5",
        "GDRO_GroupRollout.images_per_prompt=24",
        "GDRO_GroupRollout.steps=4",
    )
    for part in ("--set", setting)
]
SLEEPY = """
import os, sys
from gdro_comfy.headless.cli import main
from gdro_comfy.rewards.composition import CompositionReward
def asleep(*_, **__):
    raise RuntimeError("the judge fell asleep")
if os.environ["RANK"] == "1":
    CompositionReward.score = asleep
sys.exit(main())
"""


def command(output):
    return ["run", str(QUICKSTART), "--groups-only", "--quiet", "--output", str(output), *SMALL]


@contextlib.contextmanager
def launched(processes, program, output):
    """Start the workflow in several processes; ``communicate`` returns what they print."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    with subprocess.Popen(
        [*launcher, str(processes), *program, *command(output)], cwd=ROOT, env=environment,
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()


def finished(output):
    """Return the number of images in each file of latents on disk."""
    return {
        path: len(load_file(path)["seeds"])
        for path in output.glob("gdro/*/prompts/*/latents*.safetensors")
    }


def scores(output):
    rows = [
        json.loads(line)
        for path in output.glob("gdro/*/scores/*.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    by_image = {(row["prompt"], row["image"]): row["value"] for row in rows}
    assert len(by_image) == len(rows), "an image was scored twice"
    return by_image


def test_three_processes_finish_what_two_began_as_one_would_have(tmp_path):
    together, one = tmp_path / "together", tmp_path / "one"
    with launched(2, ["-m", "gdro_comfy"], together) as process:
        while not finished(together):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        record = next(together.glob("gdro/*/.writer.json"))
        os.kill(json.loads(record.read_text())["pid"], signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode
    done = {
        path.parent / f"{int(path.stem[8:] or 0) + index:03d}.png"
        for path, count in finished(together).items()
        for index in range(count)
    }
    assert len(done) < 120, "it was killed too late to have left something to do"
    written = {path: path.stat().st_mtime_ns for path in done}
    with launched(3, ["-m", "gdro_comfy"], together) as process:
        text = process.communicate(timeout=90)[0]
        assert process.returncode == 0, text
    assert "120 images in 5 groups" in text
    assert {path: path.stat().st_mtime_ns for path in done} == written, "made twice"
    assert cli.main(command(one)) == 0
    kept = sorted(path.relative_to(one) for path in one.glob("gdro/*/prompts/*/[!.]*"))
    theirs = together.glob("gdro/*/prompts/*/[!.]*")
    assert kept == sorted(path.relative_to(together) for path in theirs)
    for path in kept:
        if path.suffix == ".png":
            assert (one / path).read_bytes() == (together / path).read_bytes(), path
        elif path.name == "latents.safetensors":
            of_one, of_three = load_file(one / path), load_file(together / path)
            assert torch.equal(of_one["seeds"], of_three["seeds"])
            torch.testing.assert_close(of_one["latents"], of_three["latents"])
    assert scores(one) == scores(together)
    assert len(scores(one)) == 120
    assert not list(together.glob("gdro/*/.writer.json")), "the lock was left"


def test_a_reward_that_fails_in_one_process_ends_all_with_its_message(tmp_path):
    program = tmp_path / "sleepy.py"
    program.write_text(SLEEPY)
    with launched(2, [str(program)], tmp_path / "output") as process:
        text = process.communicate(timeout=90)[0]
    assert process.returncode
    assert "GDRO Score Rollout (node 6) failed: the judge fell asleep" in text
    assert "process 1 has ended: GDRO Score Rollout (node 6) failed" in text
    assert sum(finished(tmp_path / "output").values()) == 120, "the groups were not kept"
    assert not list(tmp_path.glob("output/gdro/*/.writer.json")), "the lock was left"


@pytest.mark.parametrize("arguments", [["run", str(QUICKSTART)], ["demo"]])
def test_training_in_several_processes_is_refused_before_any_work(
    tmp_path, capsys, monkeypatch, arguments
):
    launch = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in launch.items():
        monkeypatch.setenv(name, value)
    output = tmp_path / "output"
    assert cli.main([*arguments, "--output", str(output), "--quiet"]) == 2
    message = capsys.readouterr().err
    assert "--groups-only: 2 processes were started" in message
    assert "with one process" in message
    assert not output.exists()


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("costs", [[], [0, 0], [4] * 5, [0, 9, 0, 1, 1, 1, 0], [100, 1, 1]])
def test_each_item_is_in_one_share(costs, size):
    dealt = distributed.shares(costs, size)
    assert len(dealt) == size
    assert [i for start, end in dealt for i in range(start, end)] == list(range(len(costs)))


def test_shares_cost_about_the_same():
    dealt = distributed.shares([3, 1, 4, 1, 5, 9, 2, 6], 3)
    sums = [sum([3, 1, 4, 1, 5, 9, 2, 6][start:end]) for start, end in dealt]
    assert max(sums) - min(sums) <= 9, "they differ by more than an item"


def test_groups_of_a_trained_lora_are_left_to_the_whole_run():
    graph = workflow.load(QUICKSTART)
    base = workflow.group_nodes(graph)
    assert [graph[i].class_type for i in base if graph[i].class_type in workflow._SHARED] == [
        "GDRO_GroupRollout",
        "GDRO_ScoreRollout",
    ]
    assert "GDRO_TrainLoRA" not in {graph[i].class_type for i in base}
    training = next(i for i, node in graph.items() if node.class_type == "GDRO_TrainLoRA")
    rollout = next(node for node in graph.values() if node.class_type == "GDRO_GroupRollout")
    kinds = [output.type for output in workflow.all_stages()["GDRO_TrainLoRA"].outputs]
    rollout.inputs["aligned"] = Link(training, kinds.index("GDRO_ALIGNED"))
    training_node = graph[training]
    training_node.inputs = {k: v for k, v in training_node.inputs.items() if k != "rollout"}
    with pytest.raises(InputError):
        workflow.group_nodes(graph)


def test_each_process_has_a_gpu_of_its_own():
    assert several.own_gpu(4, {"LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}) == 3
    assert several.own_gpu(1, {"LOCAL_RANK": "3", "SLURM_LOCALID": "3"}) == 0
    with pytest.raises(InputError, match="sees 1 GPUs"):
        several.own_gpu(1, {"LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "2"})
