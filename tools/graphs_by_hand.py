"""The shipped workflow whose reward is a person; described as in ``graphs.py``."""

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
   *GDRO Rating Reward* while they are made; then the graph waits for you.
2. Click into the gallery and rate: keys `1` to `5`, arrows, `U` undoes. Or choose *Best and worst* and press
   `B` and `W`: that is faster. Every rating is saved at once.
3. Press **Run** again, after 4 groups or after all 24: nothing is drawn twice, the LoRA learns what you like.

The last node measures something else, whether the pictures obey their prompts: it rises if that is what you
rated. Rate more and Run again whenever you like.

Cancel whenever you like; Run goes on where it stopped. Pictures, ratings and scores are in `output/gdro`, the
LoRA in `models/loras/gdro`."""


def rate_by_hand() -> Graph:
    """A rollout that a person rates, and whether what they like obeys the prompts."""
    graph = alignment(
        "taste", ABOUT, TINY, ("shapes_train", "shapes_heldout"), ("GDRO_RatingReward", {}),
        {**GDRO_TINY, "steps": 160}, rollout={"images_per_prompt": 8}, limits=(24, 48),
    )  # fmt: skip
    nodes = graph["nodes"]
    nodes["note"] = ("MarkdownNote", "Read me", (20, -440, 640, 400), {"": ABOUT}, {})
    nodes["reward"] = ("GDRO_RatingReward", "Rate here", (860, 60, 640, 860),
                       {"kind": "stars", "least_groups": 4},
                       {"rollout": "rollout.rollout"})  # fmt: skip
    moved = {"score": (1560, 60), "train": (1940, 60), "loss": (1940, 1600),
             "heldout": (2400, 60), "evaluate": (2400, 380)}  # fmt: skip
    for key, place in moved.items():
        kind, title, box, widgets, links = nodes[key]
        nodes[key] = (kind, title, (*place, *box[2:]), widgets, links)
    nodes["shapes"] = (
        "GDRO_CompositionReward",
        "Do they obey the prompt?",
        (2400, 220, 340, 110),
        {},
        {},
    )
    nodes["evaluate"][4]["reward"] = "shapes.reward"
    graph["groups"] = [
        ("1  Model and prompts", (20, -20, 400, 900), BLUE),
        ("2  Pictures, and what you think of them", (440, -20, 1080, 980), GREEN),
        ("3  Train", (1540, -20, 800, 1960), ORANGE),
        ("4  What has changed?", (2380, -20, 660, 1500), PURPLE),
    ]
    return graph


GRAPHS: dict[str, Callable[[], Graph]] = {"rate_by_hand": rate_by_hand}
