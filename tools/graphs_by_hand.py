"""Describe the shipped workflow whose reward is a person; see ``graphs.py`` for the format."""

from __future__ import annotations

from collections.abc import Callable

from graphs import (
    BLUE,
    GDRO_TINY,
    GREEN,
    ORANGE,
    PURPLE,
    TINY,
    Graph,
    alignment,
)

ABOUT = """## Your own taste

1. Press **Run**: the bundled tiny SD3 draws 8 pictures for each of 24 prompts. They appear in the gallery of
   *GDRO Rating Reward* as they are made; then the workflow waits for your ratings.
2. Click in the gallery and rate with the keys `1` to `5`; the arrow keys move, `U` undoes. Or choose *Best
   and worst* and press `B` and `W`, which is faster. Every rating is saved at once.
3. Press **Run** again, after 4 groups or all 24: nothing is drawn twice, and the LoRA learns what you like.

The last node measures something else: whether the pictures follow their prompts. That score rises if
your ratings favour it. You can rate more and press Run again at any time.

You can cancel at any time: the next Run continues where this one stopped. Pictures, ratings and scores are
saved in `output/gdro`, the LoRA in `models/loras/gdro`."""


def rate_by_hand() -> Graph:
    """Return a graph in which a person rates the images, and a composition reward evaluates the result."""
    graph = alignment(
        "taste", ABOUT, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_RatingReward", {}),
        {**GDRO_TINY, "steps": 160}, rollout={"images_per_prompt": 8}, limits=(24, 48),
    )  # fmt: skip
    nodes = graph["nodes"]
    nodes["note"] = ("MarkdownNote", "Read me", (-620, -20, 600, 560), {"": ABOUT}, {})
    nodes["reward"] = ("GDRO_RatingReward", "Rate here", (860, 60, 640, 260),
                       {"kind": "stars", "least_groups": 4},
                       {"rollout": "rollout.rollout"})  # fmt: skip
    positions = {"score": (1560, 60), "train": (1940, 60), "loss": (1940, 1600),
                 "heldout": (2400, 60), "evaluate": (2400, 380)}  # fmt: skip
    for key, position in positions.items():
        node_type, title, box, widgets, links = nodes[key]
        nodes[key] = (node_type, title, (*position, *box[2:]), widgets, links)
    nodes["shapes"] = (
        "GDRO_CompositionReward",
        "Do they follow the prompt?",
        (2400, 220, 340, 110),
        {},
        {},
    )
    nodes["evaluate"][4]["reward"] = "shapes.reward"
    graph["groups"] = [
        ("1  Model and prompts", (20, -20, 400, 900), BLUE),
        ("2  Pictures and your ratings", (440, -20, 1080, 980), GREEN),
        ("3  Train", (1540, -20, 800, 1500), ORANGE),
        ("4  What has changed?", (2380, -20, 660, 1500), PURPLE),
    ]
    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {"rate_by_hand": rate_by_hand}
