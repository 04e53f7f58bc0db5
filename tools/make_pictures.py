"""Take the screenshot of each node for its help page, in ComfyUI's real front end.

    python tools/make_pictures.py --url http://127.0.0.1:8188 [--only GDRO_Generate ...]

Needs a running ComfyUI with this pack, in English, and Playwright with Chromium. A node of a shipped workflow
is taken in that workflow, after a short run if the workflow is in ``RUNS``; any other node is put on the
canvas between nodes that it can be connected to. Then run ``make_docs.py``.
"""

from __future__ import annotations

import argparse
import io
import json

from make_workflows import FOLDER, open_page
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from gdro_comfy.stages import STAGES

SCREENSHOTS = FOLDER.parent / "web" / "docs" / "images"
MARGIN = 90
_ROLLOUT = {"GDRO_GroupRollout": {"images_per_prompt": 8}, "GDRO_PromptSet": {"limit": 24}}
# Values of the workflows that are run, by node type: every panel shows something after a few minutes.
RUNS = {
    "quickstart": {
        **_ROLLOUT,
        "GDRO_TrainLoRA": {
            "algorithm.rounds": 1,
            "steps": 60,
            "groups_per_step": 4,
            "preview_every": 20,
        },
        "GDRO_EvaluateAlignment": {"images_per_prompt": 2},
    },
    "custom_reward_from_graph": {**_ROLLOUT, "GDRO_TrainLoRA": {"steps": 20}},
    "rate_by_hand": _ROLLOUT,
}
# Opens a shipped workflow and sets widgets.
OPEN = """
async ([name, values]) => {
  const answer = await fetch(`/api/workflow_templates/ComfyUI-GDRO/${name}.json`);
  await app.loadGraphData(await answer.json(), true, true, name);
  for (const node of app.graph.nodes)
    for (const [name, value] of Object.entries(values[node.type] ?? {})) {
      const widget = node.widgets.find(widget => widget.name === name);
      widget.value = value;
      widget.callback?.(value);
    }
}
"""
# Puts a node on an empty canvas, linked to sources of its inputs and users of its outputs.
SURROUND = """
([type, sources, users]) => {
  const graph = app.graph;
  graph.clear();
  const add = (type, x, y) => {
    const node = LiteGraph.createNode(type);
    graph.add(node);
    node.pos = [x, y];
    return node;
  };
  const node = add(type, 600, 200);
  let y = 200;
  for (const { name, type, widget } of [...node.inputs]) {
    if (widget || !sources[type]) continue;
    const [first, ...others] = sources[type];
    sources[type] = [...others, first];
    const source = add(first, 0, y);
    source.pos[0] = 600 - source.size[0] - 70;
    const output = source.outputs.findIndex(output => output.type === type);
    source.connect(output, node, node.inputs.findIndex(input => input.name === name));
    y += source.size[1] + 60;
  }
  y = 200;
  for (const [slot, output] of node.outputs.entries()) {
    if (!users[output.type]) continue;
    const user = add(users[output.type], 600 + node.size[0] + 70, y);
    node.connect(slot, user, user.inputs.findIndex(input => input.type === output.type));
    y += user.size[1] + 60;
  }
}
"""
# Types of nodes, by the type of the link; of several, each input takes the next.
SOURCES = {
    "GDRO_MODEL": ["GDRO_LoadBaseModel"],
    "GDRO_PROMPTS": ["GDRO_PromptSet"],
    "GDRO_ROLLOUT": ["GDRO_GroupRollout"],
    "GDRO_REWARD": ["GDRO_OCRReward", "GDRO_PreferenceReward"],
    "GDRO_ALIGNED": ["GDRO_TrainLoRA"],
    "MODEL": ["UNETLoader"],
    "IMAGE": ["LoadImage"],
}
USERS = {
    "GDRO_MODEL": "GDRO_GroupRollout",
    "GDRO_PROMPTS": "GDRO_GroupRollout",
    "GDRO_ROLLOUT": "GDRO_TrainLoRA",
    "GDRO_REWARD": "GDRO_ScoreRollout",
    "GDRO_ALIGNED": "GDRO_EvaluateAlignment",
    "MODEL": "KSampler",
    "IMAGE": "PreviewImage",
}
# Moves a node to the middle of the page and returns its rectangle there, with a margin.
CENTRE = """
async ([type, margin]) => {
  const { canvas, graph } = app;
  const node = graph.nodes.find(node => node.type === type);
  node.title = node.constructor.title;
  // The server's text on the node may be progress or a path of this machine.
  const text = node.widgets?.find(widget => widget.name === '$$node-text-preview');
  if (text && String(text.value).includes('/')) node.removeWidget(text);
  // The node grows once its panel has read what it shows.
  for (let before = 0; before !== node.size[1]; ) {
    before = node.size[1];
    await new Promise(resolve => setTimeout(resolve, 3000));
  }
  const [x, y, width, height] = node.getBounding();
  const { clientWidth, clientHeight } = canvas.canvas;
  const scale = Math.min(
    1, (clientWidth - 300) / (width + 2 * margin), (clientHeight - 160) / (height + 2 * margin));
  canvas.ds.scale = scale;
  canvas.ds.offset = [
    clientWidth / scale / 2 - x - width / 2, clientHeight / scale / 2 - y - height / 2];
  canvas.deselectAll();
  canvas.setDirty(true, true);
  await new Promise(resolve => setTimeout(resolve, 1500));
  const [left, top] = canvas.ds.convertOffsetToCanvas([x - margin, y - margin]);
  const box = canvas.canvas.getBoundingClientRect();
  return {
    x: box.left + left, y: box.top + top,
    width: (width + 2 * margin) * scale, height: (height + 2 * margin) * scale,
  };
}
"""


def run(page: Page, url: str) -> None:
    """Run the open workflow and wait until it has ended."""
    page.get_by_test_id("queue-button").click()
    page.wait_for_timeout(5000)
    while any(page.request.get(f"{url}/queue").json().values()):
        page.wait_for_timeout(2000)
    page.wait_for_timeout(3000)


def shoot(page: Page, node_id: str) -> None:
    """Save a screenshot of a node on the canvas, in 256 colours."""
    png = page.screenshot(clip=page.evaluate(CENTRE, [node_id, MARGIN]))
    screenshot = Image.open(io.BytesIO(png)).convert("RGB")
    SCREENSHOTS.mkdir(exist_ok=True)
    screenshot.quantize(256, kmeans=3, dither=Image.Dither.NONE).save(
        SCREENSHOTS / f"{node_id}.png", optimize=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--only", nargs="+", choices=STAGES, metavar="NODE", default=list(STAGES))
    options = parser.parse_args()
    remaining = set(options.only)
    others = (path.stem for path in sorted(FOLDER.glob("*.json")) if path.stem not in RUNS)
    with sync_playwright() as play:
        page = open_page(play, options.url)
        page.set_viewport_size({"width": 1600, "height": 1300})
        page.evaluate("app.extensionManager.setting.set('Comfy.Minimap.Visible', false)")
        for name in (*RUNS, *others):
            workflow = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
            present = remaining & {node["type"] for node in workflow["nodes"]}
            if not present:
                continue
            page.evaluate(OPEN, [name, RUNS.get(name, {})])
            if name in RUNS:
                run(page, options.url)
            for node_id in present:
                shoot(page, node_id)
            remaining -= present
        for node_id in remaining:
            page.evaluate(SURROUND, [node_id, SOURCES, USERS])
            page.wait_for_timeout(500)
            shoot(page, node_id)
        page.context.close()


if __name__ == "__main__":
    main()
