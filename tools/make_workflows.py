"""Build and save the shipped workflows in ComfyUI's real front end, and make their thumbnails.

    python tools/make_workflows.py --url http://127.0.0.1:8188 [--only quickstart]

Needs a running ComfyUI with this pack, Playwright, and Chromium on the PATH. The graphs are described in
``graphs.py`` and the other ``graphs_*.py``. The front end builds them from the nodes that
the server offers, and they are written exactly as it saves them.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import tempfile
from pathlib import Path

import graphs
import graphs_by_hand
import graphs_models
import graphs_style
from PIL import Image
from playwright.sync_api import sync_playwright

GRAPHS = {
    **graphs.GRAPHS,
    **graphs_by_hand.GRAPHS,
    **graphs_style.GRAPHS,
    **graphs_models.GRAPHS,
}
FOLDER = Path(__file__).parent.parent / "workflows"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
BUILD = """
async (spec) => {
  const app = window.app, graph = app.graph;
  graph.clear();
  const nodes = {};
  for (const [key, [type, title, box, widgets, , models]] of Object.entries(spec.nodes)) {
    const node = LiteGraph.createNode(type);
    if (!node) throw new Error('no node type ' + type);
    if (title) node.title = title;
    graph.add(node);
    node.pos = [box[0], box[1]];
    for (const [name, value] of Object.entries(widgets)) {
      const widget = node.widgets.find(w => w.name === name) ?? (name === '' ? node.widgets[0] : null);
      if (!widget) throw new Error(type + ' has no widget ' + name + ': ' + node.widgets.map(w => w.name));
      widget.value = value;
      widget.callback?.(value);
    }
    if (models) node.properties.models = models;
    // On ComfyUI's brown, the code in a note cannot be read in Nodes 2.0.
    if (type === 'MarkdownNote') [node.color, node.bgcolor] = ['#333', '#222'];
    node.size = [box[2], box[3]];
    nodes[key] = node;
  }
  for (const [key, [type, , , , links]] of Object.entries(spec.nodes)) {
    for (const [input, from] of Object.entries(links)) {
      const [source, output] = from.split('.');
      const outputSlot = nodes[source].outputs.findIndex(o => o.name === output);
      const inputSlot = nodes[key].inputs.findIndex(i => i.name === input);
      if (outputSlot < 0 || inputSlot < 0) {
        throw new Error('cannot link ' + from + ' to ' + key + '.' + input);
      }
      nodes[source].connect(outputSlot, nodes[key], inputSlot);
    }
  }
  for (const [title, box, color] of spec.groups) {
    const group = new LiteGraph.LGraphGroup(title);
    group.pos = [box[0], box[1]];
    group.size = [box[2], box[3]];
    group.color = color;
    graph.add(group);
  }
  await new Promise(resolve => setTimeout(resolve, 500));
  app.canvas.ds.offset = [720, 160]; app.canvas.ds.scale = 0.6;
  return graph.serialize();
}
"""


def save(workflow: dict, path: Path) -> None:
    """Write a workflow as the front end saves it, without what depends on this machine."""
    workflow["extra"] = {"ds": workflow.get("extra", {}).get("ds", {})}
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def thumbnail(image: Image.Image, path: Path) -> None:
    """Write the upper part of an image in 16:9, as the template browser shows it."""
    width = image.width
    part = image.convert("RGB").crop((0, 0, width, min(image.height, width * 9 // 16)))
    part.resize((870, 870 * part.height // width), Image.Resampling.LANCZOS).save(path, quality=85)


def open_page(play, url: str):
    """Return a page of Chromium with the front end loaded and its tutorial dismissed."""
    profile = tempfile.mkdtemp()
    context = play.chromium.launch_persistent_context(
        profile, executable_path=shutil.which("chromium"), headless=True, args=FLAGS,
        viewport={"width": 1800, "height": 1000},
    )  # fmt: skip
    page = context.new_page()
    page.request.post(f"{url}/settings/Comfy.TutorialCompleted", data="true")
    page.goto(url)
    page.wait_for_function(
        "window.app?.graph && window.app?.canvas && window.LiteGraph", timeout=120_000
    )
    page.wait_for_timeout(2000)
    return page


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    parser.add_argument("--only", choices=tuple(GRAPHS))
    parser.add_argument(
        "--picture", type=Path, help="image to use as the thumbnail, e.g. before_after.png"
    )
    options = parser.parse_args()
    with sync_playwright() as play:
        for name, describe in GRAPHS.items():
            if options.only not in (None, name):
                continue
            # A fresh page for each graph: new nodes start with the values chosen last on the page.
            page = open_page(play, options.url)
            save(page.evaluate(BUILD, describe()), FOLDER / f"{name}.json")
            page.evaluate("app.canvas.setDirty(true, true)")
            page.wait_for_timeout(800)
            if options.picture:
                thumbnail(Image.open(options.picture), FOLDER / f"{name}.jpg")
            else:
                shot = Image.open(io.BytesIO(page.screenshot()))
                thumbnail(shot.crop((60, 40, 1800, 1000)), FOLDER / f"{name}.jpg")
            page.context.close()


if __name__ == "__main__":
    main()
