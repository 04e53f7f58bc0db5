"""Shared fixtures: the bundled model, and a host with a temporary output folder."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tests" / "support")]

from recording_host import RecordingHost  # noqa: E402


@pytest.fixture
def host(tmp_path) -> RecordingHost:
    return RecordingHost(tmp_path / "output")


@pytest.fixture(scope="session")
def bundled_model():
    """The bundled tiny SD3, on the CPU in float32."""
    import torch

    from gdro_comfy.models import loading

    return loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
