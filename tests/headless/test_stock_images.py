"""ComfyUI's image nodes without ComfyUI, in the workflow that tints its references with them."""

import json
from pathlib import Path

import pytest
import torch

from gdro_comfy.errors import InputError
from gdro_comfy.headless import cli
from gdro_comfy.headless.stock_nodes import STOCK

STYLE = Path(__file__).parents[2] / "workflows" / "my_style.json"


def blend(first, second, factor, mode="normal"):
    return STOCK["ImageBlend"](
        None, image1=first, image2=second, blend_factor=factor, blend_mode=mode
    )[0]


def test_an_empty_image_has_the_colour_and_a_blend_lies_between():
    (tint,) = STOCK["EmptyImage"](None, width=3, height=2, batch_size=1, color=0xFF8000)
    assert tint.shape == (1, 2, 3, 3)
    assert tint[0, 0, 0].tolist() == pytest.approx([1, 128 / 255, 0])
    grey = torch.full((1, 2, 3, 3), 0.5)
    assert torch.allclose(blend(grey, tint, 0.25), 0.75 * grey + 0.25 * tint)
    assert torch.allclose(blend(grey, tint, 1.0, "multiply"), grey * tint)
    with pytest.raises(InputError, match="image2: it has 3 x 2 pixels and image1 4 x 4"):
        blend(torch.zeros(1, 4, 4, 3), tint, 0.5)


def test_a_look_is_learned_without_comfyui(tmp_path, capsys):
    small = [
        "Prompts to learn on.limit=3",
        "Prompts it has not seen.limit=2",
        "GDRO Group Rollout.images_per_prompt=3",
        "GDRO Group Rollout.steps=1",
        "Eight drawings.steps=1",
        "GDRO_TrainLoRA.algorithm.group_size=3",
        "GDRO_TrainLoRA.steps=1",
        "GDRO_TrainLoRA.groups_per_step=1",
        *(
            f"Does it {what}?.{setting}=1"
            for what in ("have the look", "follow the prompt")
            for setting in ("images_per_prompt", "steps")
        ),
    ]
    settings = [part for one in small for part in ("--set", one)]
    assert cli.main(["run", str(STYLE), "--output", str(tmp_path), "--quiet", *settings]) == 0
    out = capsys.readouterr().out
    assert "similarity, 2 prompts x 1 images" in out
    assert "composition, 2 prompts x 1 images" in out
    [scores] = tmp_path.glob("gdro/style-*/scores/combined-*.jsonl")
    rows = [json.loads(line) for line in scores.read_text(encoding="utf-8").splitlines()]
    reached = [row["value"] for row in rows if row["details"]["composition"] >= 0.5]
    below = [row["value"] for row in rows if row["details"]["composition"] < 0.5]
    assert len(rows) == 9
    assert min(reached, default=1) >= 0.5 > max(below, default=0)
