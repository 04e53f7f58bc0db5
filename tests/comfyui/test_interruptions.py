"""What a real ComfyUI does after a cancelled run, deleted files or an edited prompt file."""

import json
import shutil
from pathlib import Path

from comfyui_graphs import ROLLOUT, TRAIN, groups_only, quickstart, run_folder
from comfyui_server import change, messages, node_id
from safetensors.torch import load_file


def test_a_cancelled_training_resumes_where_it_stopped(server):
    settings = {"steps": 40, "groups_per_step": 6, "checkpoint_every": 2, "preview_every": 0}
    graph = quickstart("cancelled", TrainLoRA=settings)

    def history():
        """Return the rows so far."""
        files = (server.base / "output" / "gdro").glob("cancelled-*/train/*/history.jsonl")
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    entry = server.cancel_when(graph, lambda: len(history()) >= 6)
    [stopped] = messages(entry, "execution_interrupted")
    assert stopped["node_type"] == TRAIN
    assert not messages(entry, "execution_error")
    [checkpoint] = run_folder(server, "cancelled").glob("train/*/checkpoint.safetensors")
    assert checkpoint.stat().st_size > 1000
    before = history()
    assert 6 <= len(before) < 40
    entry = server.run(graph)
    after = history()
    assert [row["step"] for row in after] == list(range(1, 41))
    assert after[: len(before)] == before, "finished steps were repeated"
    assert Path(entry["outputs"][node_id(graph, TRAIN)]["text"][0]).is_file()


def test_a_cancelled_rollout_resumes_with_the_missing_images(server):
    graph = groups_only(
        quickstart("interrupted", GroupRollout={"images_per_prompt": 40, "steps": 4})
    )

    def pictures():
        return list((server.base / "output" / "gdro").glob("interrupted-*/prompts/*/*.png"))

    def finished_images():
        files = run_folder(server, "interrupted").glob("prompts/*/latents.safetensors")
        latents = {file.parent: load_file(file)["latents"] for file in files}
        return {group.name: len(tensor) for group, tensor in latents.items()}

    entry = server.cancel_when(graph, lambda: bool(pictures()))
    [stopped] = messages(entry, "execution_interrupted")
    assert stopped["node_type"] == ROLLOUT
    counts = finished_images()
    assert 0 < sum(counts.values()) < 240
    folder = run_folder(server, "interrupted") / "prompts"
    finished = {
        folder / group / f"{index:03d}.png" for group, n in counts.items() for index in range(n)
    }
    before = {path: path.stat().st_mtime_ns for path in finished}
    server.run(graph)
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert list(finished_images().values()) == [40] * 6
    assert len(pictures()) == 240


def test_deleted_files_are_made_again(server):
    graph = quickstart("deleted")
    entry = server.run(graph)
    path = Path(entry["outputs"][node_id(graph, TRAIN)]["text"][0])
    path.unlink()
    server.run(graph)
    assert path.is_file(), "ComfyUI used its cache, although the LoRA was deleted"
    shutil.rmtree(run_folder(server, "deleted"))
    server.run(graph)
    assert len(list(run_folder(server, "deleted").glob("prompts/*/*.png"))) == 24


def test_an_edited_prompt_file_is_read_again(server):
    file = server.base / "input" / "mine.txt"
    file.write_text("one red circle\none green star\n")
    graph = groups_only(quickstart("edited"))
    change(graph, "GDRO_PromptSet", {"source": "file", "source.file": "mine.txt", "limit": 0})
    server.run(graph)
    assert len(list(run_folder(server, "edited").glob("prompts/*"))) == 2
    file.write_text("one red circle\none green star\none blue square\n")
    server.run(graph)
    assert len(list(run_folder(server, "edited").glob("prompts/*"))) == 3
