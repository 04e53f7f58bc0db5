"""Write a run of thousands of groups with tiny files, and time what is done with it.

    python benchmarks/scale.py --prompts 10000 --images 16

Writes through the engine's own code (every file is synced), resumes, scores, lists and pages it, and deletes
it. "cold" is the first time in a process, "warm" the second; "busy" counts the seconds of the CPU. Memory is
what the process holds more than before.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[1] / "tests" / "support"),
]

from recording_host import RecordingHost  # noqa: E402

from gdro_comfy.data.conditioning import BatchedConditioning  # noqa: E402
from gdro_comfy.data.prompts import Prompt  # noqa: E402
from gdro_comfy.data.rollout import Rollout  # noqa: E402
from gdro_comfy.data.runs import Run, RunSettings  # noqa: E402
from gdro_comfy.rewards.base import RewardResult  # noqa: E402
from gdro_comfy.rollouts.sample import sample_missing  # noqa: E402
from gdro_comfy.rollouts.scoring import score_rollout  # noqa: E402
from gdro_comfy.viewer import groups, runs  # noqa: E402

SETTINGS = RunSettings({"id": "synthetic"}, 8, 1.0, (8, 8), 0)


class FirstByte:
    """A reward that costs nothing: the red of the first pixel."""

    name, range, settings = "first", (0.0, 1.0), {"version": 1}

    def check_prompts(self, prompts: Any) -> None:
        pass

    def score(self, images: Any, prompts: Any, check_cancelled: Any) -> RewardResult:
        return RewardResult(
            np.array([image.getpixel((0, 0))[0] / 255 for image in images], np.float32)
        )


def memory() -> float:
    """Return the main memory that the process holds, in MB."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


class Clock:
    """Time steps and print a row for each."""

    def __init__(self) -> None:
        self.start = memory()
        print(f"{'':46}{'seconds':>9}{'busy':>9}{'MB more':>9}")

    def __call__(self, name: str, work: Callable[[], Any]) -> Any:
        started, busy = time.perf_counter(), time.process_time()
        value = work()
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        print(f"{name:46}{seconds:9.2f}{busy:9.2f}{memory() - self.start:9.0f}", flush=True)
        return value


def write(rollout: Rollout, images: int) -> list[float]:
    """Write all groups, half of the images at a time; return the busy seconds of every thousand."""
    generator = torch.Generator().manual_seed(0)
    conditioning = BatchedConditioning({"hidden": torch.zeros(1, 4)})
    pictures = [Image.new("RGB", (8, 8), (i * 7 % 256, 0, 0)) for i in range(images)]
    seconds, started = [], time.process_time()
    for number, group in enumerate(rollout.groups(), 1):
        latents = torch.randn(images, 4, 1, 1, generator=generator)
        half = images // 2
        group.add(0, latents[:half], pictures[:half], conditioning)
        group.add(half, latents[half:], pictures[half:], conditioning)
        group.merge()
        if number % 1000 == 0 or number == len(rollout.prompts):
            seconds.append(time.process_time() - started)
            started = time.process_time()
    return seconds


def measure(folder: Path, prompts: int, images: int) -> None:
    host = RecordingHost(folder)
    texts = tuple(Prompt(f"a red circle, number {number}") for number in range(prompts))
    run = Run.open(folder, "scale", SETTINGS)
    rollout = Rollout(run, texts, images)
    clock = Clock()
    seconds = clock(
        f"write {prompts * images:,} images in {prompts:,} groups", lambda: write(rollout, images)
    )
    reward: Any = FirstByte()
    scored = clock("score all of them", lambda: score_rollout(host, rollout, reward))

    def resume() -> None:
        again = Rollout(Run.open(folder, "scale", SETTINGS), texts, images)
        sample_missing(host, None, again)  # type: ignore[arg-type]  # nothing is missing

    clock("open and resume, cold", resume)
    clock("open and resume, warm", resume)
    again = Rollout(Run.open(folder, "scale", SETTINGS), texts, images)
    clock("score again, with nothing to score", lambda: score_rollout(host, again, reward))
    clock("read the scores", scored.scores)
    clock("list of runs, cold", lambda: runs.summaries(folder))
    clock("list of runs, warm", lambda: runs.summaries(folder))
    clock("first page, latest first, cold", lambda: groups.page(run.folder, order="latest"))
    for order in groups.ORDERS:
        clock(f"first page by {order}", lambda order=order: groups.page(run.folder, order=order))
    clock(
        "last page by spread", lambda: groups.page(run.folder, order="spread", offset=prompts - 50)
    )
    clock("ten pages of 200 groups", lambda: [
        groups.page(run.folder, order="spread", offset=offset, limit=200)
        for offset in range(0, min(prompts, 2000), 200)
    ])  # fmt: skip
    files = sum(len(names) for _, _, names in os.walk(run.folder))
    print(f"\n{files:,} files, {files - prompts * images:,} of them no pictures")
    if len(seconds) > 1:
        rate = seconds[0] / seconds[-1]
        print(
            f"first thousand groups {seconds[0]:.1f} busy s, last thousand {seconds[-1]:.1f}: the last are "
            f"written at {rate:.0%} of the rate of the first"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scale-", dir=options.folder) as folder:
        measure(Path(folder), options.prompts, options.images)


if __name__ == "__main__":
    main()
