"""A chain of stages in a process of its own that is killed, has no disk left, or finds damaged files.

Processes are forked from one that has loaded the model, so that hundreds of them cost what they compute.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [
    str(Path(__file__).parents[1]),
    str(Path(__file__).parents[1] / "tests" / "support"),
]

from recording_host import RecordingHost  # noqa: E402
from small_reward import RednessReward  # noqa: E402
from small_training import OBJECTIVE, config  # noqa: E402

from gdro_comfy.data import files  # noqa: E402
from gdro_comfy.data.prompts import from_text  # noqa: E402
from gdro_comfy.errors import InputError  # noqa: E402
from gdro_comfy.evaluation.evaluate import evaluate  # noqa: E402
from gdro_comfy.evaluation.result import EvaluationConfig  # noqa: E402
from gdro_comfy.models import loading  # noqa: E402
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout  # noqa: E402
from gdro_comfy.rollouts.scoring import score_rollout  # noqa: E402
from gdro_comfy.training import memory  # noqa: E402
from gdro_comfy.training.train import train  # noqa: E402
from gdro_comfy.training.validation import Validation  # noqa: E402

PROMPTS = from_text("one red circle\ntwo blue squares")
SIZE = {"width": 32, "height": 32}
HELDOUT = from_text("one red star\ntwo red squares")
DONE, REFUSED, RAW, KILLED = 0, 3, 4, -signal.SIGKILL

Fault = Callable[[str, Path], None]
"""Called at every step of every write, with its kind and its file; may end the process, or raise."""


def chain(model: Any, output: Path) -> str:
    """Sample, score, train with validation, and evaluate; return digests of all that was computed, in JSON.

    Two images are sampled at once and belong to one group, so that an interruption changes no batch: other
    batches give other last bits. An evaluation has no such setting, and counts to four decimals.
    """
    host = RecordingHost(output)
    settings = RolloutConfig(images_per_prompt=4, steps=1, run_name="trial", batch_size=2, **SIZE)
    rollout = sample_rollout(host, model, PROMPTS, settings)
    rollout = score_rollout(host, rollout, RednessReward())
    validation = Validation(HELDOUT, RednessReward(), every=2, images_per_prompt=1)
    lora = train(
        host,
        model,
        rollout,
        OBJECTIVE,
        config(steps=4),
        reward=RednessReward(),
        validation=validation,
    )
    found = evaluate(host, model, lora, HELDOUT, RednessReward(), EvaluationConfig(1, 1, **SIZE))
    latents, images = hashlib.sha256(), hashlib.sha256()
    for group in rollout.groups():
        latents.update(group.latents().numpy().tobytes())
        for index in range(4):
            images.update(group.image(index).tobytes())
    rows = [(row["step"], row["loss"], row.get("validation")) for row in lora.history()]
    tensors = sorted(lora.tensors().items())
    parts = {
        "latents": latents.hexdigest()[:16],
        "pictures": images.hexdigest()[:16],
        "scores": files.digest(rollout.scores().tolist()),
        "lora": files.digest([[name, tensor.tolist()] for name, tensor in tensors]),
        "history": files.digest(rows),
        "evaluation": f"{found.comparison.gain:.4f} {found.results[0].drift:.4f}",
    }
    return json.dumps(parts)


@dataclass(frozen=True)
class Outcome:
    """How a process ended: one of the codes above, its digest, message or traceback, and its warnings."""

    code: int
    said: str = ""
    warned: str = ""


class Process:
    """The chain in a forked process."""

    def __init__(self, model: Any, output: Path, fault: Fault | None = None) -> None:
        self.report = output.with_name(f"{output.name}.{time.monotonic_ns()}.said")
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._run(model, output, fault)

    def _run(self, model: Any, output: Path, fault: Fault | None) -> None:
        code = RAW
        try:
            warned = io.StringIO()
            logging.basicConfig(level=logging.WARNING, stream=warned, force=True)
            if fault is not None:
                _hook(fault)
            said = chain(model, output)
            code = DONE
        except InputError as error:
            said, code = str(error), REFUSED
        except BaseException:
            said = traceback.format_exc()
        finally:
            with open(self.report, "w", encoding="utf-8", errors="replace") as file:
                json.dump([said, warned.getvalue()], file)
            os._exit(code)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> Outcome:
        _, status = os.waitpid(self.pid, 0)
        said, warned = "", ""
        if self.report.is_file():
            with contextlib.suppress(ValueError):  # killed while it was written
                said, warned = json.loads(self.report.read_text(encoding="utf-8"))
            self.report.unlink()
        return Outcome(os.waitstatus_to_exitcode(status), said, warned)


class _Writing:
    """An open file that tells of writes halfway through."""

    def __init__(self, file: Any, path: Path, fault: Fault) -> None:
        self._file, self._path, self._fault = file, path, fault

    def write(self, data: Any) -> int:
        half = len(data) // 2
        self._file.write(data[:half])
        self._file.flush()
        self._fault("write", self._path)
        self._file.write(data[half:])
        return len(data)

    def writelines(self, parts: Any) -> None:
        for part in parts:
            self.write(part)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _target(path: Any) -> Path:
    """Return the file that a temporary file becomes."""
    path = Path(path)
    if path.name.startswith(".") and path.name.endswith(".part"):
        return path.with_name(path.name[1:].rsplit(".", 2)[0])
    return path


def _hook(fault: Fault) -> None:
    """Call ``fault`` in every write of this process."""
    fsync, replace, unlink, mkdir = os.fsync, os.replace, Path.unlink, Path.mkdir
    written: dict[int, Path] = {}

    def hooked_open(path: Any, mode: str = "r", *rest: Any, **more: Any) -> Any:
        file = open(path, mode, *rest, **more)  # noqa: SIM115
        if not set(mode) & set("wa"):
            return file
        written[file.fileno()] = _target(path)
        fault("open", _target(path))
        return _Writing(file, _target(path), fault)

    def hooked_fsync(descriptor: int) -> None:
        fault("sync", written.get(descriptor, Path()))
        fsync(descriptor)

    def hooked_replace(source: Any, target: Any) -> None:
        fault("rename", Path(target))
        replace(source, target)
        fault("renamed", Path(target))

    def hooked_unlink(path: Path, *rest: Any, **more: Any) -> None:
        if not path.name.endswith(".part"):
            fault("delete", path)
        unlink(path, *rest, **more)

    def hooked_mkdir(path: Path, *rest: Any, **more: Any) -> None:
        fault("folder", path)
        mkdir(path, *rest, **more)

    files.open = hooked_open  # type: ignore[attr-defined]
    os.fsync, os.replace = hooked_fsync, hooked_replace
    Path.unlink, Path.mkdir = hooked_unlink, hooked_mkdir  # type: ignore[method-assign]


def kind_of(path: Path) -> str:
    """Return what a file of a run is, whatever its number."""
    name = path.name
    for start in ("latents", "step_", "trial"):
        if name.startswith(start):
            return start + path.suffix
    if path.suffix == ".png" and name[:3].isdigit():
        return "picture"
    return "scores" if path.parent.name == "scores" else name


class Counter:
    """Write down every step of every write."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, kind: str, path: Path) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{kind} {kind_of(path)}\n")


class At:
    """Do something at one step, counted from 0, and at all after it if ``lasts``."""

    def __init__(self, number: int, action: Callable[[Path], None], lasts: bool = False) -> None:
        self.number, self.action, self.lasts, self.count = number, action, lasts, 0

    def __call__(self, kind: str, path: Path) -> None:
        due = self.count >= self.number if self.lasts else self.count == self.number
        self.count += 1
        if due:
            self.action(path)


def die(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full(path: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def damage(path: Path, how: str, chance: random.Random) -> None:
    """Damage a file: "gone", "empty", "short", "bit", "zeros" or "other"."""
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
        return
    place = chance.randrange(len(data)) if data else 0
    if how == "empty":
        data = b""
    elif how == "short":
        data = data[:place]
    elif how == "bit" and data:
        data = data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
    elif how == "zeros":
        data = data[:place] + bytes(len(data) - place)
    elif how == "other":
        data = chance.randbytes(len(data))
    path.write_bytes(data)


def load() -> Any:
    """Load the model; a training does not count its memory here, which writes nothing and takes a second."""
    torch.set_num_threads(1)
    memory.plan = lambda host, model, rollout, group_size, config: config
    return loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    return target
