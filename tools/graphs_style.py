"""Describe the shipped workflow that learns the look of references; see ``graphs.py`` for the format."""

from __future__ import annotations

from collections.abc import Callable

from graphs import (
    BLUE,
    GDRO_TINY,
    GREEN,
    ORANGE,
    PURPLE,
    TINY,
    TINY_SAMPLING,
    WHERE,
    Graph,
    alignment,
)

ABOUT = f"""## A look of your own

Press **Run**. The references are eight drawings in a warm, faded look: the bundled tiny SD3 draws them, and
ComfyUI's *Blend Images* tints them. Replace these nodes with *Load Image* and your own pictures.

1. **GDRO Similarity Reward** scores how near the colours of a picture are to those of the references. It
   needs no weights; with a model of yours, choose *looks (DINOv2)*.
2. **GDRO Combine Rewards** puts a floor under the composition: only pictures that follow their prompt well
   enough compete for the look. Without it, the look would be learned at the cost of the prompts.
3. At the end, both are measured on prompts that were not trained on, one after the other.

{WHERE}"""

REFERENCE_PROMPTS = "one red circle\ntwo blue squares\none green star\nthree yellow circles"


def my_style() -> Graph:
    """Return a graph that rewards the palette of tinted references, with a floor under the composition."""
    graph = alignment(
        "style", ABOUT, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_CompositionReward", {}),
        {**GDRO_TINY, "steps": 240}, limits=(96, 0),
    )  # fmt: skip
    nodes = graph["nodes"]
    nodes["note"] = ("MarkdownNote", "Read me", (-620, -20, 600, 640), {"": ABOUT}, {})
    nodes["reference_prompts"] = (
        "GDRO_PromptSet", "What the references show", (40, 960, 340, 200),
        {"source": "text", "source.text": REFERENCE_PROMPTS}, {},
    )  # fmt: skip
    nodes["reference_rollout"] = (
        "GDRO_GroupRollout", "Eight drawings", (460, 960, 340, 740),
        {**TINY_SAMPLING, "images_per_prompt": 2, "seed": 5, "run_name": "style_references"},
        {"model": "model.model", "prompts": "reference_prompts.prompts"},
    )  # fmt: skip
    nodes["reference_images"] = (
        "GDRO_RolloutImages", None, (860, 960, 320, 90), {},
        {"rollout": "reference_rollout.rollout"},
    )  # fmt: skip
    nodes["tint"] = (
        "EmptyImage", "The tint", (860, 1110, 320, 180),
        {"width": 64, "height": 64, "batch_size": 1, "color": 0xE8B888}, {},
    )  # fmt: skip
    nodes["blend"] = (
        "ImageBlend", "Their look", (860, 1350, 320, 140),
        {"blend_factor": 0.5, "blend_mode": "normal"},
        {"image1": "reference_images.images", "image2": "tint.IMAGE"},
    )  # fmt: skip
    nodes["similarity"] = (
        "GDRO_SimilarityReward", "The look that I want", (860, 60, 320, 180),
        {"compare": "palette", "goal": "like these"}, {"references": "blend.IMAGE"},
    )  # fmt: skip
    nodes["reward"] = (
        "GDRO_CompositionReward", "What must not suffer", (860, 300, 320, 110), {}, {},
    )  # fmt: skip
    nodes["combined"] = (
        "GDRO_CombineRewards", None, (1240, 60, 340, 260),
        {"rule": "weights", "rule.weights": "1, 0", "rule.normalisation": "per group",
         "floors": "composition 0.5"},
        {"rewards.reward0": "similarity.reward", "rewards.reward1": "reward.reward",
         "rollout": "rollout.rollout"},
    )  # fmt: skip
    nodes["score"] = (
        "GDRO_ScoreRollout", None, (1240, 380, 340, 610), {},
        {"rollout": "rollout.rollout", "reward": "combined.reward"},
    )  # fmt: skip
    positions = {"train": (1660, 60), "loss": (1660, 1600), "heldout": (2120, 60)}
    for key, position in positions.items():
        node_type, title, box, widgets, links = nodes[key]
        nodes[key] = (node_type, title, (*position, *box[2:]), widgets, links)
    node_type, _, box, widgets, links = nodes["evaluate"]
    nodes["evaluate"] = (
        node_type, "Does it follow the prompt?", (2800, 260, *box[2:]), widgets, links,
    )  # fmt: skip
    nodes["evaluate_look"] = (
        node_type, "Does it have the look?", (2120, 260, *box[2:]), widgets,
        {**links, "reward": "similarity.reward"},
    )  # fmt: skip
    graph["groups"] = [
        ("1  Model and prompts", (20, -20, 400, 900), BLUE),
        ("2  Groups of pictures and their rewards", (440, -20, 1160, 900), GREEN),
        ("Reference pictures: put your own here", (20, 900, 1180, 840), BLUE),
        ("3  Train", (1640, -20, 440, 1960), ORANGE),
        ("4  Is it better?", (2100, -20, 1340, 1380), PURPLE),
    ]
    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {"my_style": my_style}
