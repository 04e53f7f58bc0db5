"""The panels on the nodes and the list of runs: while a run goes, at its end, after a reload, and as text."""

import json
import shutil

import pytest
from comfyui_page import (
    STATUS,
    open_workflow,
    panel,
    reload,
    run,
    status,
    wait_for_status,
    wait_for_step,
)
from comfyui_server import SMALL
from PIL import Image

from gdro_comfy.data import ratings
from gdro_comfy.data.files import append_lines, digest, write_json

ROLLOUT, SCORE = "GDRO_GroupRollout", "GDRO_ScoreRollout"
TRAIN, EVALUATE = "GDRO_TrainLoRA", "GDRO_EvaluateAlignment"
CANVAS_IMAGES = "type => app.graph.nodes.find(node => node.type === type).imgs?.length ?? 0"
NODE_TEXT = """
(type) => app.graph.nodes.find(node => node.type === type)
  .widgets.find(widget => widget.name === '$$node-text-preview')?.value ?? ''
"""
# At each step of a training: whether there are curves, and images that cannot be loaded.
WATCH_TRAINING = """
() => {
  window.stepsWithCurves = window.brokenImages = 0;
  const { api } = window.comfyAPI.api;
  api.addEventListener('gdro.train_step', () => setTimeout(() => {
    window.stepsWithCurves += document.querySelectorAll('.gdro-line').length > 0;
    for (const image of document.querySelectorAll('.gdro-training img[src]'))
      window.brokenImages += image.complete && !image.naturalWidth;
  }, 400));
}
"""
COPY = """
async () => {
  const node = app.graph.nodes.find(n => n.type === 'GDRO_ScoreRollout');
  node.properties.gdro = { [node.id]: { run: 'many-00000000' } };
  const saved = node.serialize();
  const copy = LiteGraph.createNode(node.type);
  app.graph.add(copy);
  copy.configure({ ...saved, id: copy.id });
  node.configure(saved);
  await new Promise(resolve => setTimeout(resolve, 3000));
  return [node, copy].map(
    n => n.widgets.find(w => w.name === 'gdro_panel').element.querySelector('p').textContent);
}
"""
EVIL = "<img src=x onerror=alert(1)>"
EVIL_ELEMENTS = "document.querySelectorAll('img[src=\"x\"], img[onerror]').length"


def small(**changes):
    """Return the values of a quickstart that takes seconds, with changes by node type."""
    return {**SMALL, **{name: {**SMALL[name], **values} for name, values in changes.items()}}


def last_loss(page):
    """Return what the loss chart says of its last step."""
    chart = panel(page, TRAIN).locator('[role=img][aria-label^="Loss"]')
    return chart.get_attribute("aria-label")


@pytest.fixture
def many(server):
    """Create a run of 2,000 groups, one of them with markup in its prompt."""
    folder = server.base / "output" / "gdro" / "many-00000000"
    (folder / "scores").mkdir(parents=True)
    write_json(folder / "run.json", {"name": EVIL, "model": {"pipeline": EVIL}, "size": [8, 8]})
    Image.new("RGB", (8, 8), (200, 40, 40)).save(folder / "one.png")
    rows = []
    for number in range(2000):
        prompt = EVIL if number == 0 else f"prompt {number}"
        group = folder / "prompts" / digest(prompt)
        group.mkdir(parents=True)
        write_json(group / "prompt.json", {"text": prompt})
        for index in range(2):
            shutil.copyfile(folder / "one.png", group / f"{index:03d}.png")
            value = index * (3000 - number) / 3000
            details = {"found": EVIL}
            rows.append({"prompt": group.name, "image": index, "value": value, "details": details})
    append_lines(folder / "scores" / "redness-1.jsonl", rows)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_panels_show_a_run_and_show_it_again_after_a_reload(page, renderer, tmp_path):
    name = "panels new" if renderer else "panels old"
    open_workflow(page, "quickstart", small(GDRO_GroupRollout={"run_name": name}))
    page.evaluate(WATCH_TRAINING)
    run(page)
    try:
        wait_for_status(page, EVALUATE, "Aligned against base", 300_000)
    finally:
        page.screenshot(path=tmp_path / "panels.png")
    assert "Step 6 of 6" in status(page, TRAIN)
    loss = last_loss(page)
    assert "at step 6" in loss
    assert page.evaluate("window.stepsWithCurves") > 0
    # A round of new groups has previews that are no images of a step.
    assert page.evaluate("window.brokenImages") == 0
    for node_type in (ROLLOUT, SCORE):
        assert f"6 groups in {name}" in status(page, node_type)
        assert panel(page, node_type).locator(".gdro-image img").count() >= 4
    for node_type in (ROLLOUT, SCORE, EVALUATE):
        assert page.evaluate(CANVAS_IMAGES, node_type) == 0, "the canvas shows its own image too"
    reload(page)
    wait_for_status(page, TRAIN, "Step 6 of 6")
    assert last_loss(page) == loss
    wait_for_status(page, EVALUATE, "Aligned against base")
    page.screenshot(path=tmp_path / "reloaded.png")


def test_a_rollout_shows_its_images_while_it_draws(page, server, tmp_path):
    values = {
        "GDRO_PromptSet": {"limit": 64},
        ROLLOUT: {"images_per_prompt": 16, "run_name": "halfway"},
    }
    open_workflow(page, "quickstart", values)
    view = panel(page, ROLLOUT)
    preview = view.get_by_role("img", name="Latest pictures")
    is_empty = True

    def answer(route):
        """Answer as the server does before the first image, as long as the test wants."""
        response = route.fetch()
        groups = response.json()
        if is_empty:
            groups |= {"total": 0, "matching": 0, "groups": []}
        route.fulfill(response=response, json=groups)

    page.route("**/gdro/runs/*/groups?*", answer)
    run(page)
    wait_for_status(page, ROLLOUT, "No pictures in halfway")
    preview.wait_for(timeout=180_000)
    page.wait_for_timeout(4000)  # the list has been requested again in the meantime
    assert preview.is_visible(), "nothing is shown before the list has something"
    page.screenshot(path=tmp_path / "preview.png")
    is_empty = False
    view.locator(".gdro-image").first.wait_for()
    preview.wait_for(state="hidden")
    page.unroute_all(behavior="ignoreErrors")
    [running] = server.get("/queue")["queue_running"]
    [folder] = (server.base / "output" / "gdro").glob("halfway-*")
    shown = int(status(page, ROLLOUT).split()[0])
    assert 0 < shown < 64
    assert view.get_by_label("Sort groups").input_value() == "latest"
    page.wait_for_function(
        f"shown => Number(({STATUS})('{ROLLOUT}').split(' ')[0]) > shown", arg=shown
    )
    page.screenshot(path=tmp_path / "halfway.png")
    server.post("/interrupt", {"prompt_id": running[1]})
    server.wait(running[1])
    drawn = [path.parent for path in folder.glob("prompts/*/000.png")]
    wait_for_status(page, ROLLOUT, f"{len(drawn)} groups in halfway")
    latest = max(drawn, key=lambda group: group.stat().st_mtime_ns)
    first = view.locator(".gdro-group .gdro-prompt").first
    assert digest(first.inner_text()) == latest.name


def test_an_evaluation_without_a_clear_difference_is_no_success(page, tmp_path):
    values = small(
        GDRO_GroupRollout={"run_name": "equal"}, GDRO_EvaluateAlignment={"strength": 0.0}
    )
    open_workflow(page, "quickstart", values)
    run(page)
    toast = page.locator(".p-toast-message", has_text="no clear difference")
    toast.wait_for(timeout=300_000)
    page.screenshot(path=tmp_path / "toast.png")
    assert "p-toast-message-info" in toast.get_attribute("class")
    assert "50 % of prompts" in status(page, EVALUATE)
    assert "50% of prompts" in page.evaluate(NODE_TEXT, EVALUATE)
    toast.wait_for(state="detached")


def test_shares_are_rounded_as_the_server_rounds_them(page):
    script = """
      async (fractions) => {
        const { formatPercent } = await import('/extensions/ComfyUI-GDRO/format.js');
        return fractions.map(formatPercent);
      }
    """
    fractions = [wins / prompts for prompts in (3, 8, 40, 200) for wins in range(prompts + 1)]
    assert page.evaluate(script, fractions) == [f"{share:.0%}"[:-1] for share in fractions]


def test_a_copy_of_a_node_shows_nothing_of_its_original(page, many):
    open_workflow(page, "quickstart")
    texts = page.evaluate(COPY)
    assert texts == ["2000 groups in many-00000000", "The groups appear here."]


def open_runs(page):
    """Show the list of runs as it is now; return the entry of the large run."""
    if not page.locator(".gdro-runs").is_visible():
        page.get_by_role("button", name="GDRO runs").click()
    page.get_by_role("button", name="Refresh").click()
    return page.locator(".gdro-run", has_text="many-00000000")


def test_many_groups_are_paged_and_markup_stays_text(page, many, tmp_path):
    entry = open_runs(page)
    assert EVIL in entry.inner_text()
    entry.get_by_role("button", name="Open").click()
    window = page.locator("dialog.gdro-window")
    window.get_by_text("2000 groups in many-00000000").wait_for()
    window.locator(".gdro-prompt", has_text=EVIL).wait_for()
    assert window.locator(".gdro-group").count() < 60, "groups out of sight have rows too"
    window.locator(".gdro-image").first.hover()
    window.locator(".gdro-details", has_text=f"found: {EVIL}").wait_for()
    window.locator(".gdro-list").evaluate("list => list.scrollTop = list.scrollHeight")
    window.get_by_text("prompt 1999", exact=True).wait_for()
    assert window.locator(".gdro-group").count() < 60
    window.get_by_label("Minimum spread").fill("0.9")
    window.get_by_label("Minimum spread").press("Tab")
    window.get_by_text("301 of 2000 groups").wait_for()
    page.screenshot(path=tmp_path / "groups.png")
    window.locator(".gdro-image").first.press("Enter")
    large = page.locator("dialog .gdro-large")
    large.wait_for()
    page.keyboard.press("Escape")
    large.wait_for(state="detached")
    page.keyboard.press("Escape")
    assert page.evaluate(EVIL_ELEMENTS) == 0
    window.wait_for(state="detached")


def test_a_run_is_deleted_only_after_asking(page, many, tmp_path):
    entry = open_runs(page)
    entry.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog").filter(has_text="2000 groups")
    page.screenshot(path=tmp_path / "runs.png")
    question.get_by_role("button", name="Cancel").click()
    question.wait_for(state="detached")
    assert many.is_dir()
    entry.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    entry.wait_for(state="detached")
    assert not many.exists()


def test_training_can_be_stopped_from_its_panel(page, server):
    values = small(
        GDRO_GroupRollout={"run_name": "stopped"},
        GDRO_TrainLoRA={"steps": 500, "preview_every": 0},
    )
    open_workflow(page, "quickstart", values)
    run(page)
    stop = panel(page, TRAIN).get_by_role("button", name="Stop and keep best")
    stop.wait_for(timeout=120_000, state="visible")
    stop.dispatch_event("click")
    wait_for_status(page, TRAIN, " stopped")
    [done] = (server.base / "output" / "gdro").glob("stopped-*/train/*/done.json")
    steps = json.loads(done.read_text())["steps"]
    assert 0 < steps < 500
    panel(page, TRAIN).get_by_role("button", name="Go on").dispatch_event("click")
    wait_for_step(page, steps + 1)
    assert not done.exists()
    server.post("/interrupt", {})
    wait_for_status(page, TRAIN, "unfinished")


def test_rating_with_keys_is_saved_as_it_is_made(page, many, tmp_path):
    entry = open_runs(page)
    entry.get_by_role("button", name="Rate").click()
    view = page.locator(".gdro-rating")
    view.get_by_text("0 of 2000 groups rated").wait_for()
    first = view.locator(".gdro-prompt").inner_text()
    view.focus()
    for key in ("4", "2"):
        page.keyboard.press(key)
    view.get_by_text("1 of 2000 groups rated · group 2").wait_for()
    page.keyboard.press("5")
    view.get_by_role("radio", name="Picture 1: 5 of 5").wait_for()
    page.screenshot(path=tmp_path / "rating.png")
    page.keyboard.press("u")
    view.get_by_role("radio", name="Picture 1: 5 of 5", checked=False).wait_for()
    view.get_by_role("radio", name="Picture 2: 3 of 5").click()
    page.wait_for_timeout(1000)
    assert ratings.read(many)[digest(first)].values == [4, 2]
    assert list(ratings.read(many).values())[1].values == [None, 3]
    page.keyboard.press("Escape")
    entry.get_by_role("button", name="Rate").click()
    page.get_by_text("1 of 2000 groups rated · group 2").wait_for()
    page.keyboard.press("Escape")
