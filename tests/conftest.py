"""Shared fixtures: the bundled model, and a host with a temporary output folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for each of the processes that share the cores; read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]

from recording_host import RecordingHost  # noqa: E402


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process of ``pytest -n`` whole files, and one of them all that share a ComfyUI."""
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return "comfyui" if path.startswith(("tests/browser/", "tests/comfyui/")) else path

    return ByFile(config, log)


@pytest.fixture
def host(tmp_path) -> RecordingHost:
    return RecordingHost(tmp_path / "output")


@pytest.fixture(scope="session")
def bundled_model():
    """The bundled tiny SD3, on the CPU in float32."""
    import torch

    from gdro_comfy.models import loading

    return loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
