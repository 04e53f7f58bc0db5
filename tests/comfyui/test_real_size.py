"""The benchmark of released sizes, on ComfyUI's own networks without weights."""

import os
import re
import subprocess

from comfyui_server import CHECKOUT, PACK


def test_a_released_network_is_counted_without_its_weights(comfy_python):
    done = subprocess.run(
        [comfy_python, str(PACK / "benchmarks" / "real_size.py"), "--comfyui", str(CHECKOUT),
         "--only", "SD3.5-medium", "--sizes", "256", "512"],
        env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
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
