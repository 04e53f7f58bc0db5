"""Build and save the subgraph "Align this model" in ComfyUI's real front end.

    python tools/make_subgraph.py --url http://127.0.0.1:8188

ComfyUI lists the files in ``subgraphs/`` in its node library. MODEL, CLIP, VAE, prompts and a reward go in;
the MODEL with the aligned LoRA and the comparison come out. Needs what ``make_workflows.py`` needs.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from make_workflows import BUILD, open_page
from playwright.sync_api import sync_playwright

NAME = "Align this model"
FOLDER = Path(__file__).parent.parent / "subgraphs"
_SAMPLING: dict[str, Any] = {"steps": 20, "guidance": 3.5, "width": 512, "height": 512}
"""Settings that the rollout and the comparison have in common: one widget for both."""
_SAMPLING_LINKS = {
    "steps": "steps.INT", "guidance": "guidance.FLOAT", "width": "width.INT", "height": "height.INT",
}  # fmt: skip
_INSIDE = {
    "base": ("GDRO_ModelFromWires", None, (0, 0, 340, 90), {},
             {"model": "model.MODEL", "clip": "clip.CLIP", "vae": "vae.VAE"}),
    "rollout": ("GDRO_GroupRollout", None, (420, 0, 340, 740),
                {**_SAMPLING, "images_per_prompt": 16, "run_name": "aligned"},
                {"model": "base.model", "prompts": "prompts.prompts", **_SAMPLING_LINKS,
                 "images_per_prompt": "images.INT", "run_name": "run_name.STRING"}),
    "score": ("GDRO_ScoreRollout", None, (840, 0, 320, 610), {},
              {"rollout": "rollout.rollout", "reward": "reward.reward"}),
    "train": ("GDRO_TrainLoRA", None, (1240, 0, 380, 1100),
              {"gradient_checkpointing": True, "learning_rate": 0.0003, "rank": 32, "alpha": 32.0},
              {"model": "base.model", "rollout": "score.rollout", "reward": "reward.reward",
               "steps": "training_steps.INT", "learning_rate": "learning_rate.FLOAT",
               "seed": "seed.INT"}),
    "evaluate": ("GDRO_EvaluateAlignment", None, (1700, 0, 620, 1000), _SAMPLING,
                 {"model": "base.model", "aligned": "train.aligned", "prompts": "heldout.prompts",
                  "reward": "reward.reward", **_SAMPLING_LINKS}),
    "lora": ("GDRO_LoadAlignedLoRA", None, (1700, 1100, 340, 160), {},
             {"model": "model.MODEL", "aligned": "train.aligned"}),
}  # fmt: skip
_OUTSIDE = {
    "model": ("UNETLoader", None, (-900, 0, 300, 100), {}, {}),
    "clip": ("CLIPLoader", None, (-900, 150, 300, 100), {}, {}),
    "vae": ("VAELoader", None, (-900, 300, 300, 100), {}, {}),
    "prompts": ("GDRO_PromptSet", None, (-900, 450, 300, 120), {}, {}),
    "heldout": ("GDRO_PromptSet", "held-out", (-900, 620, 300, 120), {}, {}),
    "reward": ("GDRO_CompositionReward", None, (-900, 790, 300, 110), {}, {}),
    **{name: (f"Primitive{kind}", name, (-500, 120 * row, 200, 80), {}, {}) for row, (name, kind) in
       enumerate((("images", "Int"), ("steps", "Int"), ("guidance", "Float"), ("width", "Int"),
                  ("height", "Int"), ("training_steps", "Int"), ("learning_rate", "Float"),
                  ("run_name", "String"), ("seed", "Int")))},
    "shown": ("PreviewImage", None, (2400, 0, 300, 300), {}, {"images": "evaluate.comparison"}),
    "result": ("PreviewAny", None, (2400, 350, 300, 100), {}, {"source": "evaluate.table"}),
    "used": ("ModelSamplingAuraFlow", None, (2400, 500, 300, 80), {}, {"model": "lora.model"}),
}  # fmt: skip
"""What stands in for the user's nodes while the subgraph is made, so that it gets its inputs and outputs."""
_NAMES = {"prompts_1": "heldout_prompts", "steps_1": "training_steps", "seed": "training_seed"}
_ALONE = ("seed_1", "seed_2")
"""Seeds of rollout and comparison, which the front end offers by itself: they stay inside."""
_CONVERT = """
async ({ inside, alone, name, names }) => {
  const graph = app.graph;
  const byType = (type) => graph.nodes.find(node => node.type === type);
  const nodes = Object.fromEntries(Object.entries(inside).map(([key, type]) => [key, byType(type)]));
  const { node, subgraph } = graph.convertToSubgraph(new Set(Object.values(nodes)));
  subgraph.name = name;
  node.title = name;
  for (const slot of [...subgraph.inputs]) if (alone.includes(slot.name)) subgraph.removeInput(slot);
  for (const slot of subgraph.inputs) if (names[slot.name]) {
    const renamed = names[slot.name];
    subgraph.renameInput(slot, renamed);
    slot.name = renamed;
    delete slot.label;
  }
  for (const other of [...graph.nodes]) if (other !== node) graph.remove(other);
  node.pos = [0, 0];
  await new Promise(resolve => setTimeout(resolve, 500));
  return { workflow: graph.serialize(), inputs: subgraph.inputs.map(i => [i.name, i.type]),
           outputs: subgraph.outputs.map(o => [o.name, o.type]) };
}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8188")
    options = parser.parse_args()
    with sync_playwright() as play:
        page = open_page(play, options.url)
        page.evaluate(BUILD, {"nodes": {**_OUTSIDE, **_INSIDE}, "groups": []})
        made = page.evaluate(
            _CONVERT,
            {
                "inside": {key: node[0] for key, node in _INSIDE.items()},
                "alone": _ALONE,
                "name": NAME,
                "names": _NAMES,
            },
        )
        page.context.close()
    print(made["inputs"], made["outputs"])
    save(made["workflow"])


def save(workflow: dict[str, Any]) -> None:
    """Write the blueprint as the front end saves it, without what depends on this machine."""
    workflow["extra"] = {}
    FOLDER.mkdir(exist_ok=True)
    text = json.dumps(workflow, indent=1, ensure_ascii=False)
    (FOLDER / f"{NAME}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
