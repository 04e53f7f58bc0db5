"""The benchmarks that run ComfyUI's own networks: of released sizes, and the quickstart on wires."""

import os
import re
import subprocess

from comfyui_server import CHECKOUT, PACK


def run(comfy_python, name, *arguments):
    done = subprocess.run(
        [comfy_python, str(PACK / "benchmarks" / f"{name}.py"), "--comfyui", str(CHECKOUT), *arguments],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def test_a_released_network_is_counted_without_its_weights(comfy_python):
    done = run(comfy_python, "real_size", "--only", "SD3.5-medium", "--sizes", "256", "512")
    small, large = (
        [float(n) for n in re.findall(r"\d+\.\d+", line)[1:]] + [line]
        for line in done.stdout.splitlines()[1:]
    )
    assert "cannot be counted" not in done.stderr
    assert small[-1].startswith("SD3.5-medium            2.24 B")
    weights, stored, trained, flops, one, each, recomputed, each_recomputed, _ = large
    assert (weights, stored, trained) == (2.24, 4.5, 17.9)
    # 2 x weights x tokens, without the modulation, and attention on top.
    assert 1.8 < flops < 2.5
    assert small[3] < 0.5 * flops
    assert each_recomputed < 0.25 * each
    assert recomputed < 0.5 * one


def test_a_step_at_full_width_has_every_gradient(comfy_python):
    out = run(comfy_python, "real_step", "--blocks", "1", "--size", "64").stdout
    assert "file: 0.51 GiB of zeros, 0.0 MB on disk" in out
    assert all(f"\n{part}" in out for part in ("load", "model", "forward", "backward"))
    assert "10 of 10 gradients, 1.0 M trained weights" in out


def test_the_quickstart_runs_on_wires(comfy_python):
    small = {
        "3.limit": 4, "9.limit": 4, "GDRO_GroupRollout.images_per_prompt": 4,
        "GDRO_GroupRollout.steps": 2, "GDRO_TrainLoRA.steps": 4, "GDRO_TrainLoRA.algorithm.rounds": 1,
        "GDRO_TrainLoRA.algorithm.group_size": 4, "GDRO_EvaluateAlignment.images_per_prompt": 1,
        "GDRO_EvaluateAlignment.steps": 2,
    }  # fmt: skip
    overrides = [f"--set={name}={value}" for name, value in small.items()]
    out = run(comfy_python, "quickstart_on_wires", *overrides).stdout
    assert "4 prompts x 1 images, same seeds" in out
    assert re.search(r"gain .* \+- ", out)
