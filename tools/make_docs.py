"""Write the help pages and the English locale from the declarations of the stages.

    python tools/make_docs.py

A page is ``web/docs/<node id>.md``: what the node is for, a table of its inputs and outputs, and the
advice that stands in ``ADVICE`` below. ``locales/en/nodeDefs.json`` has the same words for ComfyUI.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from gdro_comfy.stage import MISSING, Input, Stage
from gdro_comfy.stages import STAGES

ROOT = Path(__file__).parent.parent

ADVICE = {
    "GDRO_LoadBaseModel": """A diffusers folder has `model_index.json` beside `transformer/`, `vae/`, `text_encoder/`
and so on; put it into `models/diffusers` and reload the page. A folder that lacks a part, or holds another
architecture, is refused by name.""",
    "GDRO_PromptSet": """Keep what you evaluate on apart from what you train on, or the figures flatter. Some 100
prompts that the model gets right *sometimes* teach most: where every picture of a group is equally good, there is
nothing to learn. In a `.jsonl` file each line is an object with `text`, and optionally `include` (what the
composition reward looks for) and `target` (the text that the OCR reward looks for).""",
    "GDRO_GroupRollout": """The pictures are in `output/gdro/<run name>-<key>/`. The key stands for model, steps,
guidance, size and seed: change one of them and you get another run, while more prompts or more images per prompt
add to this one. Cancel and Run again as you like.""",
    "GDRO_OCRReward": """Put the text into double quotes in the prompt: `a shop sign that says "OPEN"`. Prompts
without quotes are refused, with the number of the prompt. If the node says that rapidocr is missing, install it into
ComfyUI's Python: `pip install rapidocr onnxruntime`.""",
    "GDRO_CompositionReward": """It understands prompts such as `two red circles left of one blue square`, or the
`include` entries of a prompt file. Photographs need a detector, which is not there yet.""",
    "GDRO_ScoreRollout": """Look at the histogram: if nearly all pictures have the same reward, choose other prompts
or another reward before you train. "Teach nothing" counts the groups in which all rewards are equal; they are left
out of the training.""",
    "GDRO_TrainLoRA": """Pictures that get soft or noisy while the ranking is learnt mean that the model moved too
far: lower the learning rate, raise `beta` or `top1_weight`, or stop earlier. If nothing changes, do the opposite.
`group_size` may not be above the images per prompt of the rollout.

The LoRA is written to `models/loras/gdro/`, everything else to `train/` in the folder of the run: `history.jsonl`
has loss, ranking accuracy and errors of every step, `samples/` the pictures on the way. Cancelling saves a
checkpoint; other settings are another training and leave this one alone.""",
    "GDRO_EvaluateAlignment": """The interval is over prompts, paired by seed: a gain whose interval holds 0 may be
luck. More prompts narrow it more than more images per prompt. Look at the pictures too: a reward can rise while they
get worse.""",
    "GDRO_Generate": """Use the same seed with and without `aligned` to see what the LoRA changed.""",
    "GDRO_LoadAlignedLoRA": """For ComfyUI's own samplers. The stock *LoraLoaderModelOnly* loads the same file, and
*Load LoRA Model* takes the `lora` output of GDRO Train LoRA. A LoRA of another architecture is refused.""",
}


def flat(
    declared: tuple[Input, ...], prefix: str = "", choice: str = ""
) -> Iterator[tuple[str, Input, str]]:
    """Every input with its full name and the choice that it belongs to."""
    for item in declared:
        yield prefix + item.name, item, choice
        for key, inner in (item.choices or {}).items():
            yield from flat(inner, f"{prefix}{item.name}.", key)


def _values(item: Input) -> str:
    if item.choices:
        return ", ".join(f"`{key}`" for key in item.choices)
    parts = []
    if item.options:
        parts.append(", ".join(f"`{option}`" for option in item.options))
    if item.minimum is not None and item.maximum is not None:
        parts.append(f"{item.minimum:g} to {item.maximum:g}")
    if item.default is not MISSING and item.default != "":
        parts.append(f"default `{item.default}`")
    if item.files:
        parts.append("a file from the list")
    return "; ".join(parts) or f"a connection ({item.type})"


def page(node_id: str, stage: Stage) -> str:
    """The help page of a node."""
    lines = [
        f"# {stage.title}",
        "",
        stage.description,
        "",
        "| Input | What it does | Values |",
        "|---|---|---|",
    ]
    for name, item, choice in flat(stage.inputs):
        only = f" (with *{choice}*)" if choice else ""
        lines.append(f"| `{name}`{only} | {item.tooltip} | {_values(item)} |")
    lines += ["", "| Output | What it is |", "|---|---|"]
    lines += [f"| `{output.name}` | {output.tooltip} |" for output in stage.outputs]
    lines += ["", "## Good to know", "", ADVICE[node_id], ""]
    return "\n".join(lines)


def locale() -> dict:
    """``nodeDefs.json``: dots of ids become underscores, as ComfyUI looks them up."""
    return {
        node_id: {
            "display_name": stage.title,
            "description": stage.description,
            "inputs": {
                name.replace(".", "_"): {"name": item.label or item.name, "tooltip": item.tooltip}
                for name, item, _ in flat(stage.inputs)
            },
            "outputs": {
                str(i): {"name": output.name, "tooltip": output.tooltip}
                for i, output in enumerate(stage.outputs)
            },
        }
        for node_id, stage in STAGES.items()
    }


def files() -> dict[Path, str]:
    """All generated files and what they should hold."""
    pages = {ROOT / "web" / "docs" / f"{i}.md": page(i, stage) for i, stage in STAGES.items()}
    words = json.dumps(locale(), indent=2, ensure_ascii=False) + "\n"
    return {**pages, ROOT / "locales" / "en" / "nodeDefs.json": words}


def main() -> None:
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
