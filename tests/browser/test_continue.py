"""Continue: a cancelled training resumes from the list of runs, and its end is announced."""

import json

from comfyui_page import AFTER_TRAINING, open_workflow, run, wait_for_status, wait_for_step
from comfyui_server import SMALL

TRAIN = "GDRO_TrainLoRA"
STEPS = 24


def rows(training):
    return [json.loads(line) for line in (training / "history.jsonl").read_text().splitlines()]


def test_a_cancelled_training_continues_from_the_list_of_runs(page, server, tmp_path):
    values = {
        **SMALL,
        "GDRO_GroupRollout": {**SMALL["GDRO_GroupRollout"], "run_name": "onward"},
        TRAIN: {**SMALL[TRAIN], "steps": STEPS, "checkpoint_every": 2, "preview_every": 0},
    }
    values.pop("GDRO_EvaluateAlignment")
    open_workflow(page, "quickstart", values, without=AFTER_TRAINING)
    run(page)
    wait_for_step(page, 5)
    server.post("/interrupt", {})
    wait_for_status(page, TRAIN, "unfinished")
    [folder] = (server.base / "output" / "gdro").glob("onward-*")
    [training] = (folder / "train").iterdir()
    before = rows(training)
    assert 4 <= len(before) < STEPS
    images = {path: path.stat().st_mtime_ns for path in folder.glob("prompts/*/*.png")}
    assert not page.locator(".p-toast-message").count(), "a cancelled training is announced"
    open_workflow(page, "use_aligned_lora")
    page.get_by_role("button", name="GDRO runs").click()
    entry = page.locator(".gdro-run", has_text="onward-")
    entry.get_by_role("button", name="Continue").click()
    wait_for_status(page, TRAIN, f"of {STEPS}")
    page.screenshot(path=tmp_path / "opened.png")
    run(page)
    wait_for_status(page, TRAIN, f"Step {STEPS} of {STEPS}")
    toast = page.locator(".p-toast-message-success", has_text=f"Step {STEPS} of {STEPS}")
    toast.get_by_text("finished").wait_for()
    assert "Train" in toast.inner_text()
    page.screenshot(path=tmp_path / "toast.png")
    assert [path.name for path in (folder / "train").iterdir()] == [training.name]
    after = rows(training)
    assert [row["step"] for row in after] == list(range(1, STEPS + 1))
    assert after[:4] == before[:4], "it started anew"
    assert {path: path.stat().st_mtime_ns for path in folder.glob("prompts/*/*.png")} == images
    toast.wait_for(state="detached")
    run(page)
    page.wait_for_timeout(500)
    while any(server.get("/queue").values()):
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)
    assert not page.locator(".p-toast-message").count(), "a finished training is announced again"
