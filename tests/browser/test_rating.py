"""Rating in the gallery on the node, with keys and by dragging, during a rollout and up to a trained LoRA."""

import re

from comfyui_page import centre, open_workflow, panel, run, set_values, status, wait_for_status
from comfyui_server import PACK

from gdro_comfy.data import ratings
from gdro_comfy.data.files import digest
from gdro_comfy.data.ratings import GroupRating

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
RATE = "GDRO_RatingReward"
# What the server says on the node, below the gallery.
SERVER_TEXT = """
(type) => app.graph.nodes.find(node => node.type === type)
  .widgets.find(widget => widget.name === '$$node-text-preview')?.value ?? ''
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


def wait_for_rating(page, folder, group, expected):
    """Wait until this is the rating of a group on disk."""
    for _ in range(300):
        rating = ratings.read(folder).get(group)
        if rating == expected:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{rating} is saved, not {expected}")


def test_the_canvas_has_a_view_for_each_node_that_says_so():
    declared = (PACK / "nodes" / "stage_node.py").read_text(encoding="utf-8")
    in_python = re.search(r"PANELS = frozenset\((.*?)\)", declared, re.DOTALL)[1]
    script = (PACK / "web" / "gdro.js").read_text(encoding="utf-8")
    in_script = re.search(r"const VIEWS = \{(.*?)\}", script, re.DOTALL)[1]
    names = re.compile(r"GDRO_\w+")
    assert set(names.findall(in_python)) == set(names.findall(in_script))


def test_a_session_with_the_keyboard_ends_in_a_trained_lora(page, server, renderer, tmp_path):
    name = "hand new" if renderer else "hand old"
    open_workflow(page, "rate_by_hand")
    set_values(page, SMALL)
    set_values(page, {"GDRO_GroupRollout": {"run_name": name}})
    run(page)
    centre(page, RATE)
    gallery = panel(page, RATE)
    wait_for_status(page, RATE, "0 of 3 groups rated · group 1 · 2 needed to train")
    text = page.get_by_text("0 of 3 groups rated; rate more and press Run")
    text.first.wait_for(state="attached")
    [folder] = (server.base / "output" / "gdro").glob(f"{name}-*")
    assert not (folder / "train").exists(), "it trained without a rating"
    images = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    gallery.locator(".gdro-card img").first.click()
    for key in "5142" + "1352" + "3":
        page.keyboard.press(key)
    wait_for_status(page, RATE, "2 of 3 groups rated · group 3")
    assert "needed" not in status(page, RATE)
    assert not page.evaluate(SERVER_TEXT, RATE), "the node still counts the ratings before these"
    text.first.wait_for(state="detached")
    page.screenshot(path=tmp_path / "rating.png")
    for _ in range(300):
        if len(ratings.read(folder)) == 3:
            break
        page.wait_for_timeout(100)
    rated = [[v for v in rating.values if v] for rating in ratings.read(folder).values()]
    assert rated == [[5, 1, 4, 2], [1, 3, 5, 2], [3]]
    run(page)
    page.wait_for_function(
        """() => app.graph.nodes.find(n => n.type === 'GDRO_EvaluateAlignment')
            .widgets.some(w => String(w.value).includes('95 % interval'))""",
        timeout=300_000,
    )
    [_] = (server.base / "models" / "loras" / "gdro").glob(f"{name}_*.safetensors")
    assert "2 of 3 groups" in page.evaluate(SERVER_TEXT, RATE)
    assert "2 of 3 groups rated" in status(page, RATE)
    after = {path: path.stat().st_mtime_ns for path in (folder / "prompts").rglob("*.png")}
    assert after == images, "the images were drawn again"
    workflow = page.evaluate("() => JSON.stringify(app.graph.serialize())")
    assert not any(group in workflow for group in ratings.read(folder)), (
        "ratings are in the workflow"
    )


def test_images_are_rated_while_the_rollout_still_draws(page, server, tmp_path):
    open_workflow(page, "rate_by_hand")
    set_values(page, {"GDRO_PromptSet": {"limit": 60}, "GDRO_GroupRollout": {"run_name": "busy"}})
    run(page)
    centre(page, RATE)
    assert status(page, RATE) == "Groups to rate appear here."
    card = panel(page, RATE).locator(".gdro-card img").first
    card.wait_for(timeout=180_000)
    page.screenshot(path=tmp_path / "drawing.png")
    card.click()
    page.keyboard.press("3")
    page.keyboard.press("3")
    wait_for_status(page, RATE, "1 with equal ratings, which teach nothing")
    page.keyboard.press("4")
    wait_for_status(page, RATE, "1 of ")
    [folder] = (server.base / "output" / "gdro").glob("busy-*")
    for _ in range(300):
        if any(rating.values[:3] == [3, 3, 4] for rating in ratings.read(folder).values()):
            break
        page.wait_for_timeout(100)
    [running] = server.get("/queue")["queue_running"]
    [rating] = ratings.read(folder).values()
    assert rating.values[:3] == [3, 3, 4], "a rating has to wait for the queue"
    rated, total = map(int, re.match(r"(\d+) of (\d+) groups", status(page, RATE)).groups())
    assert rated == 1
    assert total <= len(list(folder.glob("prompts/*/000.png"))) < 60, "it counts empty groups"
    server.post("/interrupt", {"prompt_id": running[1]})
    server.wait(running[1])


def open_gallery(page):
    """Rate the run of three groups from the list of runs; return the gallery in its window."""
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
    wait_for_rating(page, three, first, GroupRating([5, None, None, None]))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("w")
    view.get_by_text("1 of 3 groups rated · group 2").wait_for()
    wait_for_rating(page, three, first, GroupRating([5, 3, 3, 1]))
    page.screenshot(path=tmp_path / "best_and_worst.png")
    page.keyboard.press("u")
    view.get_by_text("0 of 3 groups rated · group 1").wait_for()
    wait_for_rating(page, three, first, GroupRating([5, None, None, None]))
    view.get_by_role("button", name="Picture 2 is the worst").click()
    wait_for_rating(page, three, first, GroupRating([5, 1, 3, 3]))
    assert page.evaluate("document.querySelectorAll('img[src=\"x\"], img[onerror]').length") == 0
    page.keyboard.press("Escape")


def test_an_order_by_dragging_and_by_keys(page, three, tmp_path):
    view = open_gallery(page)
    first = digest(view.locator(".gdro-prompt").inner_text())
    view.get_by_label("How to rate").select_option("Order")
    page.evaluate(DRAG, [3, 0])
    wait_for_rating(page, three, first, GroupRating([2, 3, 4, 1], True))
    view.get_by_role("img", name="Picture 4, ranked 1").wait_for()
    view.focus()
    page.keyboard.press("Shift+ArrowRight")
    wait_for_rating(page, three, first, GroupRating([1, 3, 4, 2], True))
    page.screenshot(path=tmp_path / "order.png")
    page.keyboard.press("u")
    wait_for_rating(page, three, first, GroupRating([2, 3, 4, 1], True))
    page.keyboard.press("Enter")
    view.get_by_text("1 of 3 groups rated · group 2").wait_for()
    view.get_by_role("button", name="Keep order").click()
    view.get_by_text("2 of 3 groups rated · group 3").wait_for()
    page.keyboard.press("Escape")


def test_an_image_is_rated_in_the_large_view_and_blind_hides_its_number(page, three, tmp_path):
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
    wait_for_rating(page, three, first, GroupRating([4, None, None, None]))
    page.screenshot(path=tmp_path / "large.png")
    page.keyboard.press("z")
    large.wait_for(state="detached")
    page.keyboard.press("Escape")
