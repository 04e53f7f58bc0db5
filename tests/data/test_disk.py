"""Disks that are full, read-only, forbidden or gone: in words, with nothing lost."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_training import OBJECTIVE, assert_same_lora, config, scored

from gdro_comfy.data import files, run_lock
from gdro_comfy.data.disk import DiskError, make_folder
from gdro_comfy.errors import InputError
from gdro_comfy.training.train import train

ROOT = Path(__file__).parents[2]
_FULL_DISK = """
import os, subprocess, sys
from pathlib import Path
sys.path[:0] = ["tests/support"]
from recording_host import RecordingHost
from small_training import PROMPTS
from gdro_comfy.data import files
from gdro_comfy.errors import InputError
from gdro_comfy.models import loading
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
import torch

disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=True)
model = loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
config = RolloutConfig(images_per_prompt=8, steps=2, batch_size=2)
sample = lambda folder: sample_rollout(RecordingHost(folder), model, PROMPTS, config)
try:
    sample(disk)
except InputError as error:
    print(error)
else:
    raise SystemExit("the disk is not full")
kept = {path: path.stat().st_mtime_ns for path in disk.rglob("*.png")}
assert not list(disk.rglob("*.part"))
subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
resumed = sample(disk)
alone = sample(Path(sys.argv[2]))
for one, other in zip(resumed.groups(), alone.groups()):
    assert one.count() == other.count() == 8
    assert torch.equal(one.latents(), other.latents())
finished = [path for path, stamp in kept.items() if path.stat().st_mtime_ns == stamp]
print("kept", len(finished))
"""


def test_a_disk_that_really_runs_full_is_named_and_the_work_goes_on_from_there(tmp_path):
    disk, alone = tmp_path / "disk", tmp_path / "alone"
    disk.mkdir()
    can = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(disk)]
    try:
        subprocess.run(can, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system lets a test mount no disk of its own")
    done = subprocess.run(
        ["unshare", "-rm", sys.executable, "-c", _FULL_DISK, str(disk), str(alone)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    message, kept = done.stdout.splitlines()
    assert f"the disk at {disk} is full" in message
    assert "What is finished is kept" in message
    assert int(kept.removeprefix("kept ")) > 0


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk at / is full"), (errno.EROFS, "the disk at / is read-only"),
        (errno.EACCES, "Permission denied"), (errno.EIO, "does not answer"),
        (errno.ENODEV, "does not answer"), (errno.EMFILE, "Too many open files"),
    ],
)  # fmt: skip
def test_every_write_says_which_disk_and_what_to_do(tmp_path, monkeypatch, number, words):
    old = tmp_path / "old.json"
    files.write_json(old, {"old": True})

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os.path, "ismount", lambda path: path == Path("/"))
    monkeypatch.setattr(os, "fsync", fail)
    monkeypatch.setattr(Path, "mkdir", fail)
    writes = {
        "old.json": lambda: files.write_json(old, {}),
        "lines.jsonl": lambda: files.append_lines(tmp_path / "lines.jsonl", [{}]),
        "folder": lambda: make_folder(tmp_path / "folder"),
    }
    for name, write in writes.items():
        with pytest.raises(InputError) as caught:
            write()
        assert f"{tmp_path / name} cannot be written" in caught.value.found
        assert words in caught.value.found
        assert "run again" in caught.value.remedy
        assert isinstance(caught.value, OSError)
        assert caught.value.errno == number
    assert files.read_lines(old) == []
    assert old.read_text() == '{\n  "old": true\n}\n'
    assert not list(tmp_path.glob(".*"))


def test_a_lock_on_a_full_disk_is_no_disk_without_locks(tmp_path, monkeypatch, caplog):
    import filelock

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(filelock.FileLock, "acquire", full)
        with pytest.raises(DiskError, match="is full"), run_lock.writing(tmp_path):
            pass
    assert not caplog.records
    with run_lock.writing(tmp_path):
        pass


def test_a_training_on_a_disk_that_runs_full_anywhere_goes_on_to_the_same_lora(
    bundled_model, host, tmp_path, monkeypatch
):
    rollout = scored(host, bundled_model)
    elsewhere = type(host)(tmp_path / "elsewhere")
    expected = train(
        elsewhere, bundled_model, scored(elsewhere, bundled_model), OBJECTIVE, config()
    )
    fsync, allowed = os.fsync, [0]

    def until_full(descriptor):
        if not allowed[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        allowed[0] -= 1
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", until_full)
    for writes in (0, 1, 2, 3, 4, 5):
        allowed[0] = writes
        with pytest.raises(InputError, match="is full"):
            train(host, bundled_model, rollout, OBJECTIVE, config())
    monkeypatch.setattr(os, "fsync", fsync)
    result = train(host, bundled_model, rollout, OBJECTIVE, config())
    assert_same_lora(result, expected)
