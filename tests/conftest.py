"""Shared fixtures: the bundled model, and a host with a temporary output folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for each of the processes that share the cores; read when torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]

from recording_host import RecordingHost  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and all that share a ComfyUI in one (``--dist loadgroup``)."""
    for item in items:
        folder = item.path.parent.name
        shared = "comfyui" if folder in ("browser", "comfyui") else str(item.path)
        item.add_marker(pytest.mark.xdist_group(shared))


@pytest.fixture
def host(tmp_path) -> RecordingHost:
    return RecordingHost(tmp_path / "output")


@pytest.fixture(scope="session")
def bundled_model():
    """The bundled tiny SD3, on the CPU in float32."""
    import torch

    from gdro_comfy.models import loading

    return loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
