"""Describe the shipped workflows for the bundled model; ``make_workflows.py`` builds and saves them.

A graph is ``{"nodes": ..., "groups": ...}``. Nodes map a key to ``(type, title or None, (x, y, width,
height), widgets, links)`` with links as ``{input: "key.output"}``; loaders have, as a sixth part, the files
that ComfyUI may offer to download, ``[{"name", "url", "directory"}]``. Groups are ``(title, (x, y, width,
height), colour)``.
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
    note_height: int = 560,
) -> Graph:
    """Return the graph that leads from a model to an evaluated LoRA.

    Args:
        name: Name of the run.
        about: Text of the note, in Markdown.
        model: Widgets of the model node, or all nodes of the model, with the last one under "model".
        sets: Names of the shipped prompt sets to train on and to evaluate on.
        reward: Node type of the reward and its widgets.
        train: Widgets of the training node.
        sampling: Sampler widgets of the rollout and the evaluation.
        rollout: Further widgets of the rollout node.
        limits: How many prompts to take from each set; 0 takes all.
        online: Whether to connect the reward to the training as well.
        validate: Whether to connect the reward and the held-out prompts to the training as well.
        note_height: Height of the note, in canvas units.
    """
    links = {"model": "model.model", "rollout": "score.rollout"}
    if "model" not in model:
        model = {"model": ("GDRO_LoadBaseModel", None, (40, 60, 340, 120), model, {})}
    _, _, (_, y, _, height), *_ = model["model"]
    below = y + height + 60
    if online or validate:
        links["reward"] = "reward.reward"
    if validate:
        links["validation_prompts"] = "heldout.prompts"
    return {
        "nodes": {
            "note": ("MarkdownNote", "Read me", (-620, -20, 600, note_height), {"": about}, {}),
            **model,
            "prompts": ("GDRO_PromptSet", "Prompts to learn on", (40, below, 340, 120),
                        {"source.set": sets[0], "limit": limits[0]}, {}),
            "rollout": ("GDRO_GroupRollout", None, (460, 60, 340, 360),
                        {**sampling, "run_name": name, **(rollout or {})},
                        {"model": "model.model", "prompts": "prompts.prompts"}),
            "reward": (reward[0], "What I want more of", (860, 60, 320, 110), reward[1], {}),
            "score": ("GDRO_ScoreRollout", None, (860, 250, 320, 200), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"}),
            "train": ("GDRO_TrainLoRA", None, (1260, 60, 380, 440), train, links),
            "loss": ("LossGraphNode", None, (1260, 1140, 380, 320),
                     {"filename_prefix": f"gdro_{name}_loss"}, {"loss": "train.loss"}),
            "heldout": ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": sets[1], "limit": limits[1]}, {}),
            "evaluate": ("GDRO_EvaluateAlignment", None, (1720, 260, 620, 420),
                         {**_without_sampler(sampling), "images_per_prompt": 4},
                         {"model": "model.model", "aligned": "train.aligned",
                          "prompts": "heldout.prompts", "reward": "reward.reward"}),
        },
        "groups": [
            ("1  Model and prompts", (20, -20, 400, max(900, below + 220)), BLUE),
            ("2  Groups of pictures and their reward", (440, -20, 780, 900), GREEN),
            ("3  Train", (1240, -20, 440, 1500), ORANGE),
            ("4  Is it better?", (1700, -20, 660, 1380), PURPLE),
        ],
    }  # fmt: skip


def _without_sampler(sampling: dict[str, Any]) -> dict[str, Any]:
    """Leave out what an evaluation takes from the rollout."""
    return {
        k: v for k, v in sampling.items() if k not in ("sampler", "scheduler", "negative_prompt")
    }


WHERE = """You can cancel at any time: the next Run continues where this one stopped. Pictures and scores are
saved in `output/gdro`, the LoRA in `models/loras/gdro`."""

QUICKSTART = f"""## Align a model to a reward

Press **Run**. In a few minutes, on any computer:

1. the bundled tiny SD3 draws a group of pictures for each prompt,
2. the reward scores how well each picture follows its prompt,
3. GDRO trains a LoRA on the groups, in two rounds: for the second, it draws new groups with what it has
   learned so far (set `rounds` to 1 to train on the first groups only),
4. the base and the aligned model are compared on prompts they have not seen.

{WHERE}"""

SPELLING = f"""## Teach a model to write

The bundled tiny SD3 draws signs, but often scribbles over the word. OCR reads each sign, and the reward is
how much of the word it found. Press **Run**: GDRO learns to draw legible signs and is then tested on words
it was not trained on.

This needs `pip install rapidocr onnxruntime` in ComfyUI's Python (nothing is downloaded at run time).

{WHERE}"""

ONLINE = f"""## Learn from new pictures in every round (DGPO)

Like the quickstart, except that every round draws and scores new groups with what the model has learned so
far. Each round is saved in the training's `rounds` folder. At regular intervals, the model is measured on
prompts it is not trained on, and the best weights are kept.

**As published:** the loss with beta 100, kl 0.02 and a clip of 0.01, groups of 16 from a deterministic
sampler, noise levels from 0.67 on, averaged weights with decay 0.9. **Not as published**, to finish in
minutes: 40 steps on each round's groups instead of one, 3 groups a step instead of 8, one noise level instead
of 4, and the base without guidance as reference. *sd35_medium_dgpo_composition* follows the publication.

{WHERE}"""

FROM_GRAPH = f"""## Build a reward from any nodes

**GDRO Rollout Images** outputs the pictures one by one. The nodes after it, here **GDRO Measure Image**, run
once for each picture, and **GDRO Scores from Graph** collects their numbers as the reward. This example
rewards colourful pictures; replace the node in the middle with any that outputs a number.

Press **Run**. At the end, both models draw pictures for prompts they were not trained on, with the same
seeds. The same nodes measure those pictures, and **GDRO Compare Rollouts** reports how much better the
aligned model is.

{WHERE}"""

_TINY_TRAIN = {"rank": 32, "alpha": 32.0, "target": "attention+mlp"}
GDRO_TINY = {
    **_TINY_TRAIN, "steps": 400, "learning_rate": 0.001, "algorithm.beta": 8.0,
    "algorithm.top1_weight": 3.0, "algorithm.draw": "best and worst",
}  # fmt: skip


def from_graph(name: str, about: str) -> Graph:
    """Return a graph whose own nodes score the images, before training and in the final comparison."""
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
    nodes["score"] = ("GDRO_ScoreRollout", None, (860, 530, 320, 200), {},
                      {"rollout": "rollout.rollout", "reward": "reward.reward"})  # fmt: skip
    nodes["heldout"] = ("GDRO_PromptSet", "Prompts it has not seen", (1720, 60, 340, 120),
                        {"source.set": "shapes_heldout", "limit": 48}, {})  # fmt: skip
    for row, key in enumerate(("base", "aligned")):
        y, links = 250 + row * 800, {"model": "model.model", "prompts": "heldout.prompts"}
        if row:
            links["aligned"] = "train.aligned"
        graded = {"rollout": f"{key}_rollout.rollout"}
        nodes[f"{key}_rollout"] = (
            "GDRO_GroupRollout", f"{key.capitalize()} model", (1720, y, 340, 360),
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
                                 (2460, y, 320, 200), {},
                                 {**graded, "reward": f"{key}_reward.reward"})  # fmt: skip
    nodes["compare"] = ("GDRO_CompareRollouts", None, (2820, 250, 560, 220), {},
                        {"base": "base_score.rollout", "aligned": "aligned_score.rollout"})  # fmt: skip
    graph["groups"] = [
        ("1  Model and prompts", (20, -20, 400, 680), BLUE),
        ("2  Pictures out, numbers in", (440, -20, 780, 1180), GREEN),
        ("3  Train", (1240, -20, 440, 1500), ORANGE),
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
