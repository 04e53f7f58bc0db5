"""The panels on the nodes and the list of runs: what a run is, while it goes, after a reload, and as text."""

import json
import shutil

import pytest
from comfyui_page import OPEN, SET, run
from comfyui_server import SMALL
from PIL import Image

from gdro_comfy.data import ratings
from gdro_comfy.data.files import append_lines, digest, write_json

MARK = """
(type) => app.graph.nodes.find(node => node.type === type)
  .widgets.find(widget => widget.name === 'gdro_panel').element.dataset.test = type
"""
PICTURES = "type => app.graph.nodes.find(node => node.type === type).imgs?.length ?? 0"
READY = "window.app?.canvas && window.app.graph?.nodes?.length > 3"
EVIL = "<img src=x onerror=alert(1)>"


def panel(page, node_type):
    """The panel of the node of a type."""
    page.evaluate(MARK, node_type)
    return page.locator(f'[data-test="{node_type}"]')


def sees(page, node_type, text, timeout=60_000):
    found = panel(page, node_type).get_by_text(text).first
    found.wait_for(state="attached", timeout=timeout)
    return found


def last_loss(page):
    """What the loss chart says of its last step."""
    chart = panel(page, "GDRO_TrainLoRA").locator('[role=img][aria-label^="Loss"]')
    return chart.get_attribute("aria-label")


@pytest.fixture(params=[False, True], ids=["classic", "nodes 2.0"])
def renderer(page, request):
    """The canvas of old, and the one of Vue components."""
    switch = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
    page.evaluate(switch, request.param)
    yield request.param
    page.evaluate(switch, False)


@pytest.fixture
def many(server):
    """A run of 2,000 groups, one of them with markup in its prompt."""
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
        for place in range(2):
            shutil.copyfile(folder / "one.png", group / f"{place:03d}.png")
            value = place * (3000 - number) / 3000
            details = {"found": EVIL}
            rows.append({"prompt": group.name, "image": place, "value": value, "details": details})
    append_lines(folder / "scores" / "redness-1.jsonl", rows)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_the_panels_show_a_run_and_show_it_again_after_a_reload(page, renderer, tmp_path):
    name = "panels new" if renderer else "panels old"
    page.evaluate(OPEN, "quickstart")
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": name}})
    page.evaluate(
        """() => {
          window.curves = 0;  // of how many steps there were curves while it trained
          const { api } = window.comfyAPI.api;
          api.addEventListener('gdro.train_step', () => setTimeout(() => {
            window.curves += document.querySelectorAll('.gdro-line').length > 0;
          }, 400));
        }"""
    )
    run(page)
    try:
        sees(page, "GDRO_EvaluateAlignment", "Aligned against base", 300_000)
    finally:
        page.screenshot(path=tmp_path / "panels.png")
    sees(page, "GDRO_TrainLoRA", "Step 6 of 6")
    loss = last_loss(page)
    assert "at step 6" in loss
    assert page.evaluate("window.curves") > 0
    for node_type in ("GDRO_GroupRollout", "GDRO_ScoreRollout"):
        sees(page, node_type, f"6 groups in {name}")
        assert panel(page, node_type).locator(".gdro-image img").count() >= 4
    for node_type in ("GDRO_GroupRollout", "GDRO_ScoreRollout", "GDRO_EvaluateAlignment"):
        assert page.evaluate(PICTURES, node_type) == 0, "the canvas shows a picture of its own too"
    page.wait_for_timeout(1500)  # the canvas writes its draft half a second after a change
    page.reload()
    page.wait_for_function(READY)
    sees(page, "GDRO_TrainLoRA", "Step 6 of 6")
    assert last_loss(page) == loss
    sees(page, "GDRO_EvaluateAlignment", "Aligned against base")
    page.screenshot(path=tmp_path / "reloaded.png")


def test_a_copy_of_a_node_shows_nothing_of_its_original(page, many):
    page.evaluate(OPEN, "quickstart")
    texts = page.evaluate(
        """async () => {
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
        }"""
    )
    assert texts == ["2000 groups in many-00000000", "The groups appear here."]


def test_many_groups_are_paged_and_markup_stays_text(page, many, tmp_path):
    page.get_by_role("button", name="GDRO runs").click()
    entry = page.locator(".gdro-run", has_text=EVIL)
    entry.get_by_role("button", name="Open").click()
    window = page.locator("dialog.gdro-window")
    window.get_by_text("2000 groups in many-00000000").wait_for()
    window.locator(".gdro-prompt", has_text=EVIL).wait_for()
    assert window.locator(".gdro-group").count() < 60, "groups out of sight are made too"
    window.locator(".gdro-image").first.hover()
    window.locator(".gdro-details", has_text=f"found: {EVIL}").wait_for()
    window.locator(".gdro-list").evaluate("list => list.scrollTop = list.scrollHeight")
    window.get_by_text("prompt 1999", exact=True).wait_for()
    assert window.locator(".gdro-group").count() < 60
    window.get_by_label("Smallest spread").fill("0.9")
    window.get_by_label("Smallest spread").press("Tab")
    window.get_by_text("301 of 2000 groups").wait_for()
    page.screenshot(path=tmp_path / "groups.png")
    window.locator(".gdro-image").first.press("Enter")
    page.locator("dialog .gdro-large").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    assert page.evaluate("document.querySelectorAll('img[src=\"x\"], img[onerror]').length") == 0
    window.wait_for(state="detached")


def test_a_run_is_deleted_only_after_asking(page, many, tmp_path):
    if not page.locator(".gdro-runs").is_visible():
        page.get_by_role("button", name="GDRO runs").click()
    page.get_by_role("button", name="Refresh").click()
    entry = page.locator(".gdro-run", has_text="many-00000000")
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


def test_training_can_be_stopped_from_its_panel(page, server, tmp_path):
    page.evaluate(OPEN, "quickstart")
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": "stopped"}})
    page.evaluate(SET, {"GDRO_TrainLoRA": {"steps": 500, "preview_every": 0}})
    run(page)
    stop = panel(page, "GDRO_TrainLoRA").get_by_role("button", name="Stop and keep best")
    stop.wait_for(timeout=120_000, state="visible")
    stop.dispatch_event("click")
    sees(page, "GDRO_TrainLoRA", "finished", 120_000)
    [done] = (server.base / "output" / "gdro").glob("stopped-*/train/*/done.json")
    assert 0 < json.loads(done.read_text())["steps"] < 500


def test_rating_with_keys_is_saved_as_it_is_made(page, many, tmp_path):
    if not page.locator(".gdro-runs").is_visible():
        page.get_by_role("button", name="GDRO runs").click()
    page.get_by_role("button", name="Refresh").click()
    entry = page.locator(".gdro-run", has_text="many-00000000")
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
    assert ratings.read(many)[digest(first)].numbers == [4, 2]
    assert list(ratings.read(many).values())[1].numbers == [None, 3]
    page.keyboard.press("Escape")
    entry.get_by_role("button", name="Rate").click()
    page.get_by_text("1 of 2000 groups rated · group 2").wait_for()
    page.keyboard.press("Escape")
