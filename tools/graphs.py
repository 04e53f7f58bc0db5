"""The shipped workflows, described: ``make_workflows.py`` has the front end build and save them.

A graph is a dict of nodes, key -> (type, title or None, (x, y, width, height), widgets, links), where
links are {input: "key.output"}; and a list of groups (title, (x, y, width, height), colour).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

BLUE, GREEN, ORANGE, PURPLE = "#3f5159", "#3f5a3f", "#6b5334", "#553f6b"
TINY = {"source": "bundled", "source.model": "tiny SD3"}
TINY_SAMPLING = {"steps": 8, "guidance": 1.0}

Graph = dict[str, Any]


def alignment(
    name: str,
    about: str,
    model: dict,
    sets: tuple[str, str],
    reward: tuple[str, dict],
    train: dict,
    sampling: dict = TINY_SAMPLING,
    rollout: dict | None = None,
    limits: tuple[int, int] = (0, 0),
    online: bool = False,
    validate: bool = False,
    model_height: int = 120,
    note_height: int = 340,
) -> Graph:
    """The road from a model to an evaluated LoRA.

    Args:
        name: of the run.
        about: the note, in Markdown.
        model: widgets of the model's node.
        sets: shipped prompts to learn on, and to evaluate on.
        reward: a node type and its widgets.
        train: widgets of the training.
        rollout: more widgets of the rollout.
        limits: prompts taken of both sets; 0 is all.
        online: the reward goes into the training too.
        validate: the held-out prompts go into the training too.
        model_height, note_height: of these nodes, in the canvas's units.
    """
    links = {"model": "model.model", "rollout": "score.rollout"}
    if online or validate:
        links["reward"] = "reward.reward"
    if validate:
        links["validation_prompts"] = "heldout.prompts"
    return {
        "nodes": {
            "note": ("MarkdownNote", "Read me", (20, -40 - note_height, 560, note_height), {"": about}, {}),
            "model": ("GDRO_LoadBaseModel", None, (40, 60, 340, model_height), model, {}),
            "prompts": ("GDRO_PromptSet", "Prompts to learn on", (40, 180 + model_height, 340, 120),
                        {"source.set": sets[0], "limit": limits[0]}, {}),
            "rollout": ("GDRO_GroupRollout", None, (460, 60, 340, 760),
                        {**sampling, "run_name": name, **(rollout or {})},
                        {"model": "model.model", "prompts": "prompts.prompts"}),
            "reward": (reward[0], "What I want more of", (860, 60, 320, 110), reward[1], {}),
            "score": ("GDRO_ScoreRollout", None, (860, 250, 320, 610), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"}),
            "train": ("GDRO_TrainLoRA", None, (1260, 60, 380, 1480), train, links),
            "loss": ("LossGraphNode", None, (1260, 1600, 380, 320),
                     {"filename_prefix": f"gdro_{name}_loss"}, {"loss": "train.loss"}),
            "heldout": ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": sets[1], "limit": limits[1]}, {}),
            "evaluate": ("GDRO_EvaluateAlignment", None, (1720, 260, 620, 1080),
                         {**sampling, "images_per_prompt": 4},
                         {"model": "model.model", "aligned": "train.aligned",
                          "prompts": "heldout.prompts", "reward": "reward.reward"}),
        },
        "groups": [
            ("1  Model and prompts", (20, -20, 400, 900), BLUE),
            ("2  Groups of images, and their reward", (440, -20, 780, 900), GREEN),
            ("3  Train", (1240, -20, 440, 1960), ORANGE),
            ("4  Is it better?", (1700, -20, 660, 1380), PURPLE),
        ],
    }  # fmt: skip


WHERE = """Cancel whenever you like; Run goes on where it stopped. Pictures and scores are in
`output/gdro`, the LoRA in `models/loras/gdro`."""

QUICKSTART = f"""## Align a model to a reward

Press **Run**. In a few minutes, on any computer:

1. the bundled tiny SD3 draws a group of pictures for each prompt,
2. the reward says which ones obey the prompt,
3. GDRO trains a LoRA on the groups, in two rounds: for the second it samples new groups with what it has
   learned (set `rounds` to 1 to train on the first groups only),
4. base and aligned model are compared on prompts they have not seen.

{WHERE}"""

SPELLING = f"""## Teach a model to write

The bundled tiny SD3 draws signs, but often scribbles over the word. OCR reads each sign; the reward is how
much of the word it found. Press **Run**: GDRO learns to draw signs that can be read, and is then tried on
words it was not trained on.

Needs `pip install rapidocr onnxruntime` in ComfyUI's Python (no download at run time).

{WHERE}"""

ONLINE = f"""## Learn from new pictures in every round (DGPO)

As the quickstart, but the training samples and scores new groups with the model as it is by then: each
round is a folder in the training's `rounds`. Every few steps the model is measured on other prompts, and
the best weights are kept.

{WHERE}"""

FROM_GRAPH = f"""## A reward from any nodes

**GDRO Rollout Images** hands out the pictures one by one. Whatever nodes you put behind it, here **GDRO
Measure Image**, run once for each picture, and **GDRO Scores from Graph** takes their numbers back as the
reward. Here it is how colourful a picture is; exchange the node in the middle for any that ends in a number.

Press **Run**. At the end both models draw prompts that they were not trained on, with the same seeds; the
same nodes measure these pictures, and **GDRO Compare Rollouts** says by how much the aligned model is better.

{WHERE}"""

_TINY_TRAIN = {"rank": 32, "alpha": 32.0, "target": "attention+mlp"}
GDRO_TINY = {
    **_TINY_TRAIN, "steps": 400, "learning_rate": 0.001, "algorithm.beta": 8.0,
    "algorithm.top1_weight": 3.0, "algorithm.draw": "best and worst",
}  # fmt: skip


def from_graph(name: str, about: str) -> Graph:
    """A rollout whose pictures are measured by nodes of the graph, and the difference that training made."""
    graph = alignment(
        name, about, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_ScoresFromGraph", {}),
        {**GDRO_TINY, "algorithm.temperature": 0.01}, limits=(96, 0),
    )  # fmt: skip
    nodes = graph["nodes"]
    del nodes["evaluate"]
    nodes["images"] = ("GDRO_RolloutImages", None, (860, 60, 320, 90), {},
                       {"rollout": "rollout.rollout"})  # fmt: skip
    nodes["measure"] = ("GDRO_MeasureImage", "Put your own nodes here", (860, 200, 320, 110),
                        {"measure": "colourfulness"}, {"image": "images.images"})  # fmt: skip
    nodes["reward"] = ("GDRO_ScoresFromGraph", "What I want more of", (860, 360, 320, 120),
                       {"name": "colourfulness"},
                       {"rollout": "rollout.rollout", "scores": "measure.value"})  # fmt: skip
    nodes["score"] = ("GDRO_ScoreRollout", None, (860, 530, 320, 610), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"})  # fmt: skip
    nodes["heldout"] = ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": "shapes_heldout", "limit": 48}, {})  # fmt: skip
    for row, key in enumerate(("base", "aligned")):
        y, links = 250 + row * 800, {"model": "model.model", "prompts": "heldout.prompts"}
        if row:
            links["aligned"] = "train.aligned"
        graded = {"rollout": f"{key}_rollout.rollout"}
        nodes[f"{key}_rollout"] = (
            "GDRO_GroupRollout", f"{key.capitalize()} model", (1720, y, 340, 740),
            {**TINY_SAMPLING, "images_per_prompt": 4, "seed": 1_000_000, "run_name": f"{name}_heldout"},
            links,
        )  # fmt: skip
        nodes[f"{key}_images"] = ("GDRO_RolloutImages", None, (2100, y, 320, 90), {}, graded)
        nodes[f"{key}_measure"] = ("GDRO_MeasureImage", "The same nodes again", (2100, y + 140, 320, 110),
                                   {"measure": "colourfulness"},
                                   {"image": f"{key}_images.images"})  # fmt: skip
        nodes[f"{key}_reward"] = ("GDRO_ScoresFromGraph", None, (2100, y + 300, 320, 120),
                                  {"name": "colourfulness"},
                                  {**graded, "scores": f"{key}_measure.value"})  # fmt: skip
        nodes[f"{key}_score"] = ("GDRO_ScoreRollout", f"{key.capitalize()}: how colourful",
                                 (2460, y, 320, 610), {},
                                 {**graded, "reward": f"{key}_reward.reward"})  # fmt: skip
    nodes["compare"] = ("GDRO_CompareRollouts", None, (2820, 250, 560, 900), {},
                        {"base": "base_score.rollout", "aligned": "aligned_score.rollout"})  # fmt: skip
    graph["groups"] = [
        ("1  Model and prompts", (20, -20, 400, 680), BLUE),
        ("2  Pictures out, numbers in", (440, -20, 780, 1180), GREEN),
        ("3  Train", (1240, -20, 440, 1960), ORANGE),
        ("4  Is it better?", (1700, -20, 1700, 1840), PURPLE),
    ]
    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {
    "quickstart": lambda: alignment(
        "shapes", QUICKSTART, TINY, ("shapes_train", "shapes_heldout"),
        ("GDRO_CompositionReward", {}),
        {**GDRO_TINY, "algorithm.rounds": 2, "algorithm.prompts_per_round": 96}, online=True,
    ),
    "teach_it_to_write": lambda: alignment(
        "words", SPELLING, TINY, ("words_train", "words_heldout"), ("GDRO_OCRReward", {}),
        {**GDRO_TINY, "steps": 240},
    ),
    "dgpo_online": lambda: alignment(
        "online", ONLINE, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_CompositionReward", {}),
        {"algorithm": "dgpo", "algorithm.rounds": 6, "algorithm.prompts_per_round": 16,
         **_TINY_TRAIN, "steps": 240, "groups_per_step": 3, "learning_rate": 0.001,
         "validate_every": 40},
        limits=(48, 0), online=True, validate=True,
    ),
    "custom_reward_from_graph": lambda: from_graph("colourful", FROM_GRAPH),
}  # fmt: skip
