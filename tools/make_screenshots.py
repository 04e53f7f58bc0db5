"""Take the README's pictures of the panels, from runs of the bundled model in ComfyUI's front end.

    python tools/make_screenshots.py --url http://127.0.0.1:8188

Needs a running ComfyUI with this pack, in English, and Playwright with Chromium. What the
server has of these runs already is not made again.
"""

from __future__ import annotations

import argparse
import io

from make_pictures import OPEN, run
from make_workflows import FOLDER, open_page
from PIL import Image
from playwright.sync_api import Page, sync_playwright

PICTURES = FOLDER.parent / "docs"
SCALE = 1.6
EDGE = 12
LARGEST = 150_000
# A training that measures itself on the way.
CURVES = {
    "GDRO_PromptSet": {"limit": 48},
    "GDRO_GroupRollout": {"images_per_prompt": 8, "run_name": "curves"},
    "GDRO_TrainLoRA": {
        "algorithm.rounds": 1,
        "steps": 100,
        "groups_per_step": 4,
        "preview_every": 0,
        "validate_every": 10,
    },
}
BY_HAND = {"GDRO_PromptSet": {"limit": 24}, "GDRO_GroupRollout": {"images_per_prompt": 8}}
STARS = "32414213" + "14352211" + "1332"
# Prompts on which the training measures itself on the way: the curves of its reward.
VALIDATE = """
([limit]) => {
  const of = (type) => app.graph.nodes.filter(node => node.type === type);
  const [train] = of('GDRO_TrainLoRA');
  const prompts = of('GDRO_PromptSet').find(node => node.outputs[0].links.some(
    id => app.graph.links.get(id).target_id === of('GDRO_EvaluateAlignment')[0].id));
  prompts.widgets.find(widget => widget.name === 'limit').value = limit;
  prompts.connect(0, train, train.inputs.findIndex(input => input.name === 'validation_prompts'));
}
"""
# Makes room for a node's panel, in the upper left of the page, and marks it.
SHOW = """
([type, width, more, scale]) => {
  const { canvas, graph } = app;
  const node = graph.nodes.find(node => node.type === type);
  const text = node.widgets.find(widget => widget.name === '$$node-text-preview');
  if (text) node.removeWidget(text);
  const panel = node.widgets.find(widget => widget.name === 'gdro_panel');
  node.setSize([width, node.computeSize()[1] + more]);
  for (const other of graph.nodes) other.pos = other === node ? [0, 0] : [-9000, -9000];
  for (const group of [...graph.groups]) graph.remove(group);
  canvas.deselectAll();
  canvas.ds.scale = scale;
  canvas.ds.offset = [100, 100 - panel.y];
  canvas.setDirty(true, true);
  panel.element.dataset.shot = type;
}
"""
LATE = """
() => {
  const said = document.querySelector('.gdro-training .gdro-status')?.textContent ?? '';
  const [, step, total] = said.match(/Step (\\d+) of (\\d+)/) ?? [];
  return step >= 0.9 * total;
}
"""


def shoot(page: Page, node_id: str, name: str, width: int, more: int, hover: str = "") -> None:
    """The picture of a node's panel of this width, and so much higher than it has to be."""
    page.evaluate(SHOW, [node_id, width, more, SCALE])
    panel = page.locator(f'[data-shot="{node_id}"]')
    page.wait_for_function("!document.querySelector('.p-toast-message')")
    page.wait_for_timeout(1500)
    if hover:
        panel.locator(hover).first.hover()
        page.wait_for_timeout(500)
    box = panel.bounding_box()
    assert box
    around = {"x": box["x"] - EDGE, "y": box["y"] - EDGE}
    around |= {"width": box["width"] + 2 * EDGE, "height": box["height"] + 2 * EDGE}
    picture = Image.open(io.BytesIO(page.screenshot(clip=around))).convert("RGB")
    path = PICTURES / f"{name}.webp"
    picture.save(path, quality=82, method=6)
    size = path.stat().st_size
    if size > LARGEST:
        raise SystemExit(f"{path.name} has {size} bytes, more than {LARGEST}")
    print(f"{path.name}: {picture.width} x {picture.height}, {size} bytes")


def rate(page: Page) -> None:
    """Give stars to the first groups, with the keyboard."""
    gallery = page.locator(".gdro-rating")
    gallery.get_by_text("groups rated").wait_for(state="attached")
    gallery.evaluate("gallery => gallery.focus()")
    for star in STARS:
        page.keyboard.press(star)
        page.wait_for_timeout(60)


def go_to_a_change(page: Page) -> None:
    """Show the first prompt on which base and aligned got different rewards."""
    view = page.locator(".gdro-compare")
    while True:
        base, aligned = view.locator("output").inner_text().split(" · ")[0].split(" → ")
        if base != aligned:
            return
        view.get_by_role("button", name="Next prompt").dispatch_event("click")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    options = parser.parse_args()
    with sync_playwright() as play:
        page = open_page(play, options.url)
        page.set_default_timeout(1_800_000)
        page.set_viewport_size({"width": 1800, "height": 1300})
        page.evaluate("app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
        page.evaluate(OPEN, ["rate_by_hand", BY_HAND])
        run(page, options.url)
        rate(page)
        shoot(page, "GDRO_RatingReward", "panel_rating", 590, 0)
        page.evaluate(OPEN, ["quickstart", CURVES])
        page.evaluate(VALIDATE, [12])
        page.get_by_test_id("queue-button").click()
        page.wait_for_function(LATE)
        shoot(page, "GDRO_TrainLoRA", "panel_training", 560, 20)
        run(page, options.url)
        page.evaluate(OPEN, ["quickstart", {}])
        run(page, options.url)
        shoot(page, "GDRO_ScoreRollout", "panel_groups", 664, 140, hover=".gdro-image")
        go_to_a_change(page)
        shoot(page, "GDRO_EvaluateAlignment", "panel_comparison", 640, 0)
        page.context.close()


if __name__ == "__main__":
    main()
