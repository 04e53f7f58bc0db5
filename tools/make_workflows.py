"""Build and save the shipped workflows in ComfyUI's real front end, and shoot their thumbnails.

    python tools/make_workflows.py --url http://127.0.0.1:8188 [--only quickstart]

Needs a running ComfyUI with this pack, and Playwright with Chromium. The graphs are described here in
Python, built by the front end itself from the nodes that the server offers, and written as it saves them.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

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
SAMPLING = {"steps": 8, "guidance": 2.0}
BLUE, GREEN, ORANGE, PURPLE = "#3f5159", "#3f5a3f", "#6b5334", "#553f6b"

# A node: key -> (type, title or None, (x, y, width, height), widgets, links {input: "key.output"}).
# A group: (title, (x, y, width, height), colour).


def alignment(kind: str, title: str, about: str, reward: str, train: dict) -> dict:
    """The road from a model to an evaluated LoRA, for one of the bundled models and one reward."""
    return {
        "nodes": {
            "note": (
                "MarkdownNote", "Read me", (20, -300, 460, 270),
                {"": about}, {},
            ),
            "model": ("GDRO_LoadBaseModel", None, (40, 60, 340, 120),
                      {"source.model": f"tiny SD3, {kind}"}, {}),
            "prompts": ("GDRO_PromptSet", "Prompts to learn on", (40, 260, 340, 120),
                        {"source.set": f"{kind}_train", "limit": train.pop("prompts")}, {}),
            "rollout": ("GDRO_GroupRollout", None, (460, 60, 340, 560),
                        {"images_per_prompt": train.pop("images"), **SAMPLING, "run_name": kind},
                        {"model": "model.model", "prompts": "prompts.prompts"}),
            "reward": (reward, "What I want more of", (860, 60, 320, 90), {}, {}),
            "score": ("GDRO_ScoreRollout", None, (860, 230, 320, 390), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"}),
            "train": ("GDRO_TrainLoRA", None, (1260, 60, 380, 800), train,
                      {"model": "model.model", "rollout": "score.rollout"}),
            "loss": ("LossGraphNode", None, (1260, 920, 380, 320),
                     {"filename_prefix": f"gdro_{kind}_loss"}, {"loss": "train.loss"}),
            "heldout": ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": f"{kind}_heldout", "limit": 0}, {}),
            "evaluate": ("GDRO_EvaluateAlignment", None, (1720, 260, 620, 980),
                         {**SAMPLING, "images_per_prompt": 4},
                         {"model": "model.model", "aligned": "train.aligned",
                          "prompts": "heldout.prompts", "reward": "reward.reward"}),
        },
        "groups": [
            ("1  Model and prompts", (20, -20, 400, 660), BLUE),
            ("2  Groups of images, and their reward", (440, -20, 780, 660), GREEN),
            ("3  Train", (1240, -20, 440, 1280), ORANGE),
            ("4  Is it better?", (1700, -20, 660, 1280), PURPLE),
        ],
        "title": title,
    }  # fmt: skip


QUICKSTART = """## Align a model to a reward

Press **Run**. In a few minutes, on any computer:

1. the bundled tiny SD3 draws a group of pictures for each prompt,
2. the reward says which ones obey the prompt,
3. GDRO trains a LoRA on the groups,
4. base and aligned model are compared on prompts they have not seen.

Cancel whenever you like; Run goes on where it stopped. Pictures and scores are in `output/gdro`, the LoRA
in `models/loras/gdro`."""

WORKFLOWS = {
    "quickstart": lambda: alignment(
        "shapes", "quickstart", QUICKSTART, "GDRO_CompositionReward",
        {"prompts": 128, "images": 16, "steps": 240, "learning_rate": 0.0007, "rank": 32,
         "alpha": 32.0, "target": "attention+mlp", "algorithm.beta": 30.0,
         "algorithm.top1_weight": 4.0, "algorithm.draw": "best and worst"},
    ),
}  # fmt: skip

BUILD = """
async (spec) => {
  const app = window.app, graph = app.graph;
  graph.clear();
  const made = {};
  for (const [key, [type, title, box, widgets]] of Object.entries(spec.nodes)) {
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
    node.size = [box[2], box[3]];
    made[key] = node;
  }
  for (const [key, [type, , , , links]] of Object.entries(spec.nodes)) {
    for (const [input, from] of Object.entries(links)) {
      const [source, output] = from.split('.');
      const slot = made[source].outputs.findIndex(o => o.name === output);
      const place = made[key].inputs.findIndex(i => i.name === input);
      if (slot < 0 || place < 0) throw new Error('cannot link ' + from + ' to ' + key + '.' + input);
      made[source].connect(slot, made[key], place);
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
  app.canvas.ds.offset = [160, 360]; app.canvas.ds.scale = 0.6;
  return graph.serialize();
}
"""


def save(workflow: dict, path: Path) -> None:
    """As the front end saves it, without what depends on this machine."""
    workflow["extra"] = {"ds": workflow.get("extra", {}).get("ds", {})}
    path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def thumbnail(picture: Image.Image, path: Path) -> None:
    """The upper part of a picture, 16:9, as the template browser shows it."""
    width = picture.width
    part = picture.convert("RGB").crop((0, 0, width, min(picture.height, width * 9 // 16)))
    part.resize((870, 870 * part.height // width), Image.Resampling.LANCZOS).save(path, quality=85)


def open_page(play, url: str):
    profile = tempfile.mkdtemp()
    context = play.chromium.launch_persistent_context(
        profile, executable_path="/usr/bin/chromium", headless=True, args=FLAGS,
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
    parser.add_argument("--only", choices=WORKFLOWS)
    parser.add_argument(
        "--picture", type=Path, help="make the thumbnail of this, e.g. before_after.png"
    )
    options = parser.parse_args()
    with sync_playwright() as play:
        page = open_page(play, options.url)
        for name, describe in WORKFLOWS.items():
            if options.only not in (None, name):
                continue
            save(page.evaluate(BUILD, describe()), FOLDER / f"{name}.json")
            page.evaluate("app.canvas.setDirty(true, true)")
            page.wait_for_timeout(800)
            if options.picture:
                thumbnail(Image.open(options.picture), FOLDER / f"{name}.jpg")
            else:
                shot = Image.open(io.BytesIO(page.screenshot()))
                thumbnail(shot.crop((60, 40, 1800, 1000)), FOLDER / f"{name}.jpg")


if __name__ == "__main__":
    main()
