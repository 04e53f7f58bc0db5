"""A training that was cancelled goes on from the list of runs; its end is said in the corner of the page."""

import json

from comfyui_page import OPEN, SET, TRAINING_ONLY, run
from comfyui_server import SMALL

TRAIN = "GDRO_TrainLoRA"
STEPS = 24
STATUS = """
(type) => app.graph.nodes.find(node => node.type === type)?.widgets
  .find(widget => widget.name === 'gdro_panel').element.querySelector('.gdro-status').textContent ?? ''
"""
SAYS = f"([type, text]) => ({STATUS})(type).includes(text)"
STEP = f"([type, least]) => Number(({STATUS})(type).match(/Step (\\d+)/)?.[1] ?? 0) >= least"


def rows(training):
    return [json.loads(line) for line in (training / "history.jsonl").read_text().splitlines()]


def test_go_on_opens_the_graph_of_a_run_and_run_continues_it(page, server, tmp_path):
    page.evaluate(OPEN, "quickstart")
    page.evaluate(TRAINING_ONLY)
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": "onward"}})
    page.evaluate(SET, {TRAIN: {"steps": STEPS, "checkpoint_every": 2, "preview_every": 0}})
    run(page)
    page.wait_for_function(STEP, arg=[TRAIN, 5])
    server.post("/interrupt", {})
    page.wait_for_function(SAYS, arg=[TRAIN, "unfinished"])
    [folder] = (server.base / "output" / "gdro").glob("onward-*")
    [training] = (folder / "train").iterdir()
    before = rows(training)
    assert 4 <= len(before) < STEPS
    pictures = {path: path.stat().st_mtime_ns for path in folder.glob("prompts/*/*.png")}
    page.evaluate(OPEN, "use_aligned_lora")
    page.get_by_role("button", name="GDRO runs").click()
    page.locator(".gdro-run", has_text="onward-").get_by_role("button", name="Go on").click()
    page.wait_for_function(SAYS, arg=[TRAIN, f"of {STEPS}"])
    page.screenshot(path=tmp_path / "again.png")
    run(page)
    page.wait_for_function(SAYS, arg=[TRAIN, f"Step {STEPS} of {STEPS}"])
    toast = page.locator(".p-toast-message", has_text=f"Step {STEPS} of {STEPS}")
    toast.get_by_text("finished").wait_for()
    assert "Train" in toast.inner_text()
    page.screenshot(path=tmp_path / "toast.png")
    assert [path.name for path in (folder / "train").iterdir()] == [training.name]
    after = rows(training)
    assert [row["step"] for row in after] == list(range(1, STEPS + 1))
    assert after[:4] == before[:4], "it began anew"
    assert {path: path.stat().st_mtime_ns for path in folder.glob("prompts/*/*.png")} == pictures
    toast.wait_for(state="detached")
    run(page)
    page.wait_for_timeout(500)
    while any(server.get("/queue").values()):
        page.wait_for_timeout(200)
    page.wait_for_timeout(500)
    assert not page.locator(".p-toast-message").count(), "a training that was there is announced"
