"""One process at a time writes into a run: who is refused, what is taken over, what stays free."""

import contextlib
import json
import logging
import os
import platform
import threading

import pytest
import torch
from PIL import Image
from writing_process import other_process

from gdro_comfy.data import files, ratings, runs
from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.data.prompts import Prompt
from gdro_comfy.data.run_lock import LOCK, RECORD, writing
from gdro_comfy.errors import InputError
from gdro_comfy.training import commands
from gdro_comfy.viewer import runs as viewer


@pytest.fixture
def folder(tmp_path):
    settings = runs.RunSettings({"id": 1}, 8, 1.0, (64, 64), 0)
    return runs.Run.open(tmp_path, "cats", settings).folder


def leave(folder, **changes):
    record = {"pid": os.getppid(), "host": platform.node(), "program": "main.py", "since": "2026"}
    files.write_json(folder / RECORD, {**record, **changes})


def test_a_live_process_is_named_and_what_it_leaves_in_order_is_free(folder, caplog):
    with other_process(folder) as other:
        assert other.says == "writes"
        with pytest.raises(InputError) as caught, writing(folder):
            pass
        assert f"process {other.pid} " in caught.value.found
        assert "on this computer" in caught.value.found
        assert "run again" in caught.value.remedy
        other.communicate(timeout=60)
    with writing(folder):
        assert json.loads((folder / RECORD).read_text())["pid"] == os.getpid()
    assert not (folder / RECORD).exists()
    assert not caplog.records


def test_the_lock_of_a_killed_process_is_taken_over_with_a_word(folder, caplog):
    with other_process(folder) as other:
        other.kill()
        other.wait()
        assert (folder / RECORD).is_file()
        with writing(folder):
            pass
    assert f"process {other.pid} " in caplog.text
    assert "killed" in caplog.text


@pytest.mark.parametrize("pid", [os.getppid(), os.getpid(), None], ids=["parent", "own", "none"])
def test_a_record_whose_pid_another_process_has_now_is_taken_over(folder, caplog, pid):
    leave(folder, pid=pid)
    with writing(folder):
        assert json.loads((folder / RECORD).read_text())["pid"] == os.getpid()
    assert "killed" in caplog.text


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"host": 3}', b"\xff", b"[" * 100_000])
def test_a_damaged_record_is_taken_over(folder, damage):
    (folder / RECORD).write_bytes(damage)
    with writing(folder):
        assert json.loads((folder / RECORD).read_text())["pid"] == os.getpid()


def test_the_lock_of_another_computer_is_refused_until_its_file_is_gone(folder):
    leave(folder, host="elsewhere", pid=7)
    before = (folder / RECORD).read_bytes()
    with pytest.raises(InputError, match="'elsewhere'") as caught, writing(folder):
        pass
    assert str(folder / RECORD) in caught.value.remedy
    assert (folder / RECORD).read_bytes() == before
    (folder / RECORD).unlink()
    with writing(folder):
        pass


def test_a_process_may_ask_again_and_keeps_the_lock_to_the_end(folder):
    def ask_in_a_thread():
        with writing(folder):
            done.append(True)

    done = []
    with writing(folder):
        with writing(folder / ".." / folder.name), contextlib.suppress(KeyError):
            raise KeyError
        thread = threading.Thread(target=ask_in_a_thread)
        thread.start()
        thread.join()
        assert done
        with other_process(folder) as other:
            assert f"process {os.getpid()} " in other.says
    with other_process(folder) as other:
        assert other.says == "writes"


def test_ratings_and_commands_stay_free_and_deleting_does_not(folder):
    training = folder / "train" / "aaaa000000"
    training.mkdir(parents=True)
    with other_process(folder) as other:
        assert other.says == "writes"
        ratings.write(folder, {"0" * 12: ratings.GroupRating([5])})
        commands.send(training, "stop")
        with pytest.raises(InputError, match=f"process {other.pid} "):
            viewer.delete(folder.parent.parent, folder.name)
    assert ratings.read(folder)
    viewer.delete(folder.parent.parent, folder.name)
    assert not folder.exists()


def test_lists_of_a_run_do_not_show_the_lock(folder):
    def shown():
        return {**viewer.summary(folder), "bytes": 0, "modified": 0}

    before = shown()
    with writing(folder):
        assert {LOCK, RECORD} <= set(os.listdir(folder))
        assert shown() == before
        assert viewer.entries(folder, ".json").keys() == {"run.json"}


def test_a_group_that_has_grown_meanwhile_takes_no_images_made_for_before(folder):
    settings = runs.RunSettings({"id": 1}, 8, 1.0, (64, 64), 0)
    one, two = (runs.Run(folder, settings).group(Prompt("a cat")) for _ in range(2))
    conditioning = BatchedConditioning({"hidden": torch.ones(1, 3)})

    def add(group, start, colour):
        images = [Image.new("RGB", (8, 8), colour)] * 2
        group.add(start, torch.zeros(2, 16, 2, 2), images, conditioning)

    add(one, 0, "red")
    for start in (0, 1, 3):
        with pytest.raises(InputError, match="has 2 pictures now"):
            add(two, start, "blue")
    assert two.count() == 2
    assert two.image(0).getpixel((0, 0)) == (255, 0, 0)
    add(two, 2, "blue")
    assert one.count() == 4


def test_temporary_files_of_one_process_have_different_names(tmp_path):
    names = []

    def write_another(file):
        names.append(file.name)
        if len(names) < 3:
            files.write_atomic(tmp_path / "a.json", write_another)
        file.write(b"%d" % len(names))

    files.write_atomic(tmp_path / "a.json", write_another)
    assert len(set(names)) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_without_locks_warns_and_works(folder, caplog, monkeypatch):
    import filelock

    def no_locks(self):
        raise OSError(95, "not supported")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with caplog.at_level(logging.WARNING), writing(folder):
        pass
    assert "a disk without locks" in caplog.text
