"""Take the README's screenshots of the panels, of runs of the bundled model in ComfyUI's front end.

    python tools/make_screenshots.py --url http://127.0.0.1:8188

Needs a running ComfyUI with this pack, in English, and Playwright with Chromium. Whatever the server
already has of these runs is used again.
"""

from __future__ import annotations

import argparse
import io

from make_pictures import OPEN, run
from make_workflows import FOLDER, open_page
from PIL import Image
from playwright.sync_api import Page, sync_playwright

SCREENSHOTS = FOLDER.parent / "docs"
SCALE = 1.6
EDGE = 12
MAX_BYTES = 150_000
# A training with validation.
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
# Links the first prompts of the evaluation to the training as its validation prompts.
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
# Shows a node alone with its panel in the upper left of the page, and marks the panel.
SHOW = """
([type, width, extra, scale]) => {
  const { canvas, graph } = app;
  const node = graph.nodes.find(node => node.type === type);
  const text = node.widgets.find(widget => widget.name === '$$node-text-preview');
  if (text) node.removeWidget(text);
  const panel = node.widgets.find(widget => widget.name === 'gdro_panel');
  node.setSize([width, node.computeSize()[1] + extra]);
  for (const other of graph.nodes) other.pos = other === node ? [0, 0] : [-9000, -9000];
  for (const group of [...graph.groups]) graph.remove(group);
  canvas.deselectAll();
  canvas.ds.scale = scale;
  canvas.ds.offset = [100, 100 - panel.y];
  canvas.setDirty(true, true);
  panel.element.dataset.shot = type;
}
"""
# Whether a training is close to its end.
LATE = """
() => {
  const status = document.querySelector('.gdro-training .gdro-status')?.textContent ?? '';
  const [, step, total] = status.match(/Step (\\d+) of (\\d+)/) ?? [];
  return step >= 0.9 * total;
}
"""


def shoot(page: Page, node_id: str, name: str, width: int, extra: int, hover: str = "") -> None:
    """Save a screenshot of a node's panel.

    Args:
        name: of the file.
        width: of the node, in units of the canvas.
        extra: height beyond the node's minimum.
        hover: selector of an element in the panel that the pointer is on.
    """
    page.evaluate(SHOW, [node_id, width, extra, SCALE])
    panel = page.locator(f'[data-shot="{node_id}"]')
    page.wait_for_function("!document.querySelector('.p-toast-message')")
    page.wait_for_timeout(1500)
    if hover:
        panel.locator(hover).first.hover()
        page.wait_for_timeout(500)
    box = panel.bounding_box()
    assert box
    clip = {"x": box["x"] - EDGE, "y": box["y"] - EDGE}
    clip |= {"width": box["width"] + 2 * EDGE, "height": box["height"] + 2 * EDGE}
    screenshot = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    path = SCREENSHOTS / f"{name}.webp"
    screenshot.save(path, quality=82, method=6)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise SystemExit(f"{path.name} has {size} bytes; at most {MAX_BYTES} are allowed")
    print(f"{path.name}: {screenshot.width} x {screenshot.height}, {size} bytes")


def rate(page: Page) -> None:
    """Rate the first groups with stars, by the keyboard."""
    gallery = page.locator(".gdro-rating")
    gallery.get_by_text("groups rated").wait_for(state="attached")
    gallery.evaluate("gallery => gallery.focus()")
    for star in STARS:
        page.keyboard.press(star)
        page.wait_for_timeout(60)


def go_to_a_change(page: Page) -> None:
    """Go to the first prompt for which base and aligned have different rewards."""
    view = page.locator(".gdro-compare")
    # The node may be out of view, and its panel hidden.
    step = view.get_by_role("button", name="Next prompt", include_hidden=True)
    while view.locator("output").get_attribute("data-verdict") == "same":
        step.dispatch_event("click")


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
