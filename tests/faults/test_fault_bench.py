"""A seeded part of benchmarks/faults.py: nothing is lost, and every error is in words."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the cases are forked processes")
def test_nothing_is_lost_whatever_happens(tmp_path):
    cases = {"--kills": 14, "--damaged": 14, "--full": 4, "--doubles": 2, "--seed": 3}
    arguments = [str(part) for pair in cases.items() for part in pair]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "faults.py"), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TMPDIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    columns = lines[0].split()
    rows = {
        line[:18].strip(): dict(zip(columns, line[18:].split(), strict=True)) for line in lines[1:6]
    }
    assert {row: int(values["injected"]) for row, values in rows.items()} == {
        "double processes": 2, "full disks": 4, "damaged files": 14, "kills": 14, "all": 34,
    }  # fmt: skip
    assert all(values["lost"] == values["raw"] == "0" for values in rows.values())
    assert rows["kills"]["identical"] == "14"
    assert rows["full disks"]["refused"] == "4"
    assert int(rows["damaged files"]["healed"]) > 0
