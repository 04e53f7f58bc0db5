"""Keys inside a panel stay there, and every panel is used by keyboard alone."""

import pytest
from comfyui_page import centre, open_workflow, panel, wait_for_status

RATE, ROLLOUT = "GDRO_RatingReward", "GDRO_GroupRollout"
# Lets nodes show a run, and selects one of them.
SHOW = """
async ([run, types]) => {
  for (const node of app.graph.nodes.filter(node => types.includes(node.type))) {
    node.properties.gdro = { [node.id]: { run } };
    node.configure(node.serialize());
  }
}
"""
SELECT = """
(type) => {
  const { canvas, graph } = app;
  const node = graph.nodes.find(node => node.type === type);
  canvas.deselectAll();
  canvas.selectNode(node);
  // Something that Ctrl+Z could undo.
  canvas.emitBeforeChange();
  node.pos = [node.pos[0] + 40, node.pos[1]];
  node.title = 'changed';
  canvas.emitAfterChange();
}
"""
GRAPH = "() => JSON.stringify(app.graph.nodes.map(node => [node.type, node.title, [...node.pos]]))"
TAKE_FOCUS = "element => { element.focus(); return document.activeElement === element; }"
FOCUS = "() => getComputedStyle(document.activeElement).outlineStyle"


@pytest.mark.parametrize(
    ("node_type", "element"),
    [
        (RATE, ".gdro-rating"),
        (RATE, ".gdro-bar button"),
        (ROLLOUT, ".gdro-image"),
        (ROLLOUT, ".gdro-bar select"),
    ],
)
def test_keys_in_a_panel_do_not_reach_the_graph(page, three, node_type, element):
    open_workflow(page, "rate_by_hand")
    page.evaluate(SHOW, [three.name, [node_type]])
    wait_for_status(page, node_type, "3 groups")
    page.evaluate(SELECT, node_type)
    centre(page, node_type)  # what is out of sight gets no focus
    page.wait_for_timeout(600)
    before = page.evaluate(GRAPH)
    focused = panel(page, node_type).locator(element).first
    for key in (
        "Delete",
        "Backspace",
        "ArrowRight",
        "ArrowDown",
        "Control+z",
        "Control+y",
        "m",
        "p",
        ".",
    ):
        assert focused.evaluate(TAKE_FOCUS)
        page.keyboard.press(key)
    page.wait_for_timeout(800)
    assert page.evaluate(GRAPH) == before


def test_images_are_gone_through_with_the_arrows_and_the_focus_is_seen(page, three, tmp_path):
    open_workflow(page, "rate_by_hand")
    page.evaluate(SHOW, [three.name, [ROLLOUT]])
    wait_for_status(page, ROLLOUT, "3 groups")
    centre(page, ROLLOUT)
    images = panel(page, ROLLOUT).locator(".gdro-image")
    images.first.wait_for()
    assert images.first.evaluate(TAKE_FOCUS)
    page.keyboard.press("ArrowRight")
    label = "() => document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(label) == images.nth(1).get_attribute("aria-label")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(label) == images.nth(4).get_attribute("aria-label"), "the next group"
    assert page.evaluate(FOCUS) == "solid"
    page.screenshot(path=tmp_path / "focus.png")
    page.keyboard.press("Enter")
    large = page.locator("dialog .gdro-large")
    large.wait_for()
    page.keyboard.press("Escape")
    large.wait_for(state="detached")


def test_undo_in_the_rating_panel_takes_back_a_rating(page, three):
    open_workflow(page, "rate_by_hand")
    page.evaluate(SHOW, [three.name, [RATE]])
    wait_for_status(page, RATE, "0 of 3 groups rated")
    centre(page, RATE)
    view = panel(page, RATE)
    view.locator(".gdro-card img").first.wait_for()
    assert view.locator(".gdro-rating").evaluate(TAKE_FOCUS)
    page.keyboard.press("5")
    view.locator('img[alt="Picture 1, rated 5"]').wait_for(state="attached")
    page.keyboard.press("Control+z")
    view.locator('img[alt="Picture 1, not rated"]').wait_for(state="attached")
