"""Rating in the gallery on the node: a session with the keyboard ends in a trained LoRA; picking and ordering
are saved as they are made; what is shown on the nodes is what the canvas attaches."""

import re
import shutil

import pytest
from comfyui_page import OPEN, SET, run
from comfyui_server import PACK
from PIL import Image

from gdro_comfy.data import ratings
from gdro_comfy.data.files import digest, write_json
from gdro_comfy.data.ratings import Given

EVIL = "<img src=x onerror=alert(1)>"
SMALL = {
    "GDRO_PromptSet": {"limit": 3},
    "GDRO_GroupRollout": {"images_per_prompt": 4, "steps": 2},
    "GDRO_RatingReward": {"least_groups": 2},
    "GDRO_TrainLoRA": {
        "algorithm.group_size": 3,
        "steps": 3,
        "groups_per_step": 2,
        "preview_every": 0,
    },
    "GDRO_EvaluateAlignment": {"images_per_prompt": 1, "steps": 2},
}
MARK = """
() => app.graph.nodes.find(node => node.type === 'GDRO_RatingReward')
  .widgets.find(widget => widget.name === 'gdro_panel').element.dataset.test = 'rating'
"""
CENTRE = """
() => {
  const node = app.graph.nodes.find(node => node.type === 'GDRO_RatingReward');
  app.canvas.ds.scale = 1;
  app.canvas.ds.offset = [300 - node.pos[0], 150 - node.pos[1]];
  app.canvas.setDirty(true, true);
}
"""
DRAG = """
([from, to]) => {
  const cards = [...document.querySelectorAll('dialog .gdro-card')];
  const dataTransfer = new DataTransfer();
  const fire = (card, type) => card.dispatchEvent(
    new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer }));
  fire(cards[from], 'dragstart');
  fire(cards[to], 'dragover');
  fire(cards[to], 'drop');
}
"""


@pytest.fixture(params=[False, True], ids=["classic", "nodes 2.0"])
def renderer(page, request):
    """The canvas of old, and the one of Vue components."""
    switch = "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)"
    page.evaluate(switch, request.param)
    yield request.param
    page.evaluate(switch, False)


@pytest.fixture
def three(server):
    """A run of three groups of four pictures, one with markup as its prompt."""
    folder = server.base / "output" / "gdro" / "three-00000000"
    for number, prompt in enumerate((EVIL, "second", "third")):
        group = folder / "prompts" / digest(prompt)
        group.mkdir(parents=True)
        write_json(group / "prompt.json", {"text": prompt})
        for place in range(4):
            Image.new("RGB", (8, 8), (60 * place, 90 * number, 40)).save(group / f"{place:03d}.png")
    write_json(folder / "run.json", {"name": "three", "model": {}, "size": [8, 8]})
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def saved(page, folder, group, expected):
    """What is on disk of a group, once it is there."""
    for _ in range(50):
        found = ratings.read(folder).get(group)
        if found == expected:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{found} is saved, not {expected}")


def test_the_canvas_has_a_view_for_each_node_that_says_so():
    declared = (PACK / "nodes" / "stage_node.py").read_text(encoding="utf-8")
    in_python = re.search(r"PANELS = frozenset\((.*?)\)", declared, re.DOTALL)[1]
    script = (PACK / "web" / "gdro.js").read_text(encoding="utf-8")
    in_script = re.search(r"const VIEWS = \{(.*?)\}", script, re.DOTALL)[1]
    names = re.compile(r"GDRO_\w+")
    assert set(names.findall(in_python)) == set(names.findall(in_script))


def test_a_session_with_the_keyboard_ends_in_a_trained_lora(page, server, renderer, tmp_path):
    name = "hand new" if renderer else "hand old"
    page.evaluate(OPEN, "rate_by_hand")
    page.evaluate(SET, SMALL)
    page.evaluate(SET, {"GDRO_GroupRollout": {"run_name": name}})
    run(page)
    page.evaluate(CENTRE)
    page.evaluate(MARK)
    gallery = page.locator('[data-test="rating"]')
    gallery.get_by_text("0 of 3 groups rated").wait_for(state="attached")
    page.get_by_text("0 of 3 groups rated; rate more and press Run").first.wait_for(
        state="attached"
    )
    [folder] = (server.base / "output" / "gdro").glob(f"{name}-*")
    assert not (folder / "train").exists(), "it trained without a rating"
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    gallery.locator(".gdro-card img").first.click()
    for key in "5142" + "1352" + "3":
        page.keyboard.press(key)
    gallery.get_by_text("2 of 3 groups rated · group 3").wait_for(state="attached")
    page.screenshot(path=tmp_path / "rating.png")
    for _ in range(50):
        if len(ratings.read(folder)) == 3:
            break
        page.wait_for_timeout(100)
    assert [given.numbers for given in ratings.read(folder).values()] == [
        [5, 1, 4, 2], [1, 3, 5, 2], [3, None, None, None],
    ]  # fmt: skip
    run(page)
    page.wait_for_function(
        """() => app.graph.nodes.find(n => n.type === 'GDRO_EvaluateAlignment')
            .widgets.some(w => String(w.value).includes('95 % interval'))""",
        timeout=300_000,
    )
    [_] = (server.base / "models" / "loras" / "gdro").glob(f"{name}_*.safetensors")
    pictures = {path: path.stat().st_mtime_ns for path in (folder / "prompts").rglob("*.png")}
    assert pictures == made, "the pictures were drawn again"
    workflow = page.evaluate("() => JSON.stringify(app.graph.serialize())")
    assert not any(group in workflow for group in ratings.read(folder)), (
        "ratings are in the workflow"
    )


def test_pictures_are_rated_while_the_rollout_still_draws(page, server):
    page.evaluate(OPEN, "rate_by_hand")
    page.evaluate(SET, {"GDRO_PromptSet": {"limit": 60}, "GDRO_GroupRollout": {"run_name": "busy"}})
    run(page)
    page.evaluate(CENTRE)
    page.evaluate(MARK)
    card = page.locator('[data-test="rating"] .gdro-card img').first
    card.wait_for(timeout=180_000)
    card.click()
    page.keyboard.press("3")
    [folder] = (server.base / "output" / "gdro").glob("busy-*")
    for _ in range(50):
        if ratings.read(folder):
            break
        page.wait_for_timeout(100)
    [running] = server.get("/queue")["queue_running"]
    assert ratings.read(folder), "a rating has to wait for the queue"
    server.post("/interrupt", {"prompt_id": running[1]})
    server.wait(running[1])


def open_gallery(page):
    if not page.locator(".gdro-runs").is_visible():
        page.get_by_role("button", name="GDRO runs").click()
    page.get_by_role("button", name="Refresh").click()
    page.locator(".gdro-run", has_text="three-00000000").get_by_role("button", name="Rate").click()
    view = page.locator("dialog .gdro-rating")
    view.get_by_text("0 of 3 groups rated").wait_for()
    return view


def test_best_and_worst_are_two_keys_a_group(page, three, tmp_path):
    view = open_gallery(page)
    first = digest(view.locator(".gdro-prompt").inner_text())
    view.get_by_label("How to rate").select_option("Best and worst")
    view.focus()
    page.keyboard.press("b")
    saved(page, three, first, Given([5, None, None, None]))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("w")
    view.get_by_text("1 of 3 groups rated · group 2").wait_for()
    saved(page, three, first, Given([5, 3, 3, 1]))
    page.screenshot(path=tmp_path / "best_and_worst.png")
    page.keyboard.press("u")
    view.get_by_text("0 of 3 groups rated · group 1").wait_for()
    saved(page, three, first, Given([5, None, None, None]))
    view.get_by_role("button", name="Picture 2 is the worst").click()
    saved(page, three, first, Given([5, 1, 3, 3]))
    assert page.evaluate("document.querySelectorAll('img[src=\"x\"], img[onerror]').length") == 0
    page.keyboard.press("Escape")


def test_an_order_by_dragging_and_by_keys(page, three, tmp_path):
    view = open_gallery(page)
    first = digest(view.locator(".gdro-prompt").inner_text())
    view.get_by_label("How to rate").select_option("Order")
    page.evaluate(DRAG, [3, 0])
    saved(page, three, first, Given([2, 3, 4, 1], True))
    view.get_by_role("img", name="Picture 4, number 1").wait_for()
    view.focus()
    page.keyboard.press("Shift+ArrowRight")
    saved(page, three, first, Given([1, 3, 4, 2], True))
    page.screenshot(path=tmp_path / "order.png")
    page.keyboard.press("u")
    saved(page, three, first, Given([2, 3, 4, 1], True))
    page.keyboard.press("Enter")
    view.get_by_text("1 of 3 groups rated · group 2").wait_for()
    view.get_by_role("button", name="Keep order").click()
    view.get_by_text("2 of 3 groups rated · group 3").wait_for()
    page.keyboard.press("Escape")


def test_a_picture_is_rated_in_the_large_view_and_blind_hides_its_number(page, three, tmp_path):
    view = open_gallery(page)
    first = digest(view.locator(".gdro-prompt").inner_text())
    assert view.locator(".gdro-card > .gdro-faint").first.is_hidden()
    view.get_by_label("Blind").uncheck()
    assert view.locator(".gdro-card > .gdro-faint").first.inner_text() == "0"
    view.focus()
    page.keyboard.press("z")
    large = page.get_by_role("dialog", name="Large picture")
    large.get_by_role("img", name="Picture 1, not rated").wait_for()
    page.keyboard.press("4")
    large.get_by_role("img", name="Picture 2, not rated").wait_for()
    saved(page, three, first, Given([4, None, None, None]))
    page.screenshot(path=tmp_path / "large.png")
    page.keyboard.press("z")
    large.wait_for(state="detached")
    page.keyboard.press("Escape")
