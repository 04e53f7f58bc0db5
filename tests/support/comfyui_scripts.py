"""Run a script of tests/comfyui in ComfyUI's Python, and read the pack's table of model families."""

import importlib.util
import json
import os
import subprocess

from comfyui_server import CHECKOUT, PACK


def run_in_comfyui(comfy_python, script, *arguments):
    """Return what a script printed: a JSON value for each line that starts with "GDRO "."""
    done = subprocess.run(
        [comfy_python, str(PACK / "tests" / "comfyui" / script), str(PACK), *arguments],
        cwd=CHECKOUT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line[5:]) for line in done.stdout.splitlines() if line.startswith("GDRO ")]


def load_families():
    """Return the module with the table, which needs no ComfyUI."""
    spec = importlib.util.spec_from_file_location(
        "families", PACK / "nodes" / "wires" / "families.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
