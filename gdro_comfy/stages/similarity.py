"""Stage of the reward that compares images with reference images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Input, Output, Stage
from .shared import judge_folder

if TYPE_CHECKING:
    from ..host import Host

_HUB = {
    "looks (DINOv2)": "DINOv2",
    "content (SigLIP 2)": "SigLIP 2",
    "content (CLIP)": "CLIP",
}
"""Choices that come from the hub -> their key in ``image_embeddings.HUB``."""


def _similarity_reward(
    host: Host, references: list[Any], compare: dict[str, Any], goal: dict[str, Any]
) -> tuple[Any, str]:
    from .. import rewards
    from ..rewards import similarity

    images = similarity.read_references(references)
    comparison = _comparison(host, compare)
    settings: dict[str, Any] = {"goal": goal["goal"]}
    if "several" in goal:
        settings["several"] = goal["several"]
    if "at_least" in goal:
        settings["band"] = (goal["at_least"], goal["at_most"])
    reward: Any = rewards.create("similarity", references=images, comparison=comparison, **settings)
    return reward, reward.about()


def _comparison(host: Host, compare: dict[str, Any]) -> Any:
    from ..rewards.image_embeddings import HUB, ImageEmbedder
    from ..rewards.similarity import Embedding, Palette

    kind = compare["compare"]
    if kind == "palette":
        return Palette()
    if kind == "local folder":
        folder = judge_folder(host, compare["folder"])
        return Embedding(ImageEmbedder(folder, device=host.device()))
    source, download = HUB[_HUB[kind]], bool(compare["download"])
    return Embedding(ImageEmbedder(source, download, host.device(), "compare"))


def _hub(size: str) -> tuple[Input, ...]:
    return (
        Input(
            "download",
            "BOOLEAN",
            f"Downloads the weights ({size}) if they are not on this machine yet. Off: no network access.",
            default=False,
        ),
    )


SIMILARITY_REWARD = Stage(
    run=_similarity_reward,
    display_name="GDRO Similarity Reward",
    category="rewards",
    description=(
        "How like your reference pictures a picture is: in its colours (no weights), its looks or its "
        "content. Asks for more like them, for less, or for like them but no copy."
    ),
    inputs=(
        Input(
            "references",
            "IMAGE",
            "One or more pictures, as a batch or a list. One that comes twice counts once.",
            is_list=True,
        ),
        Input(
            "compare",
            "DYNAMICCOMBO",
            "What is compared. palette: colours and their amounts. looks: style, materials and forms. "
            "content: what is shown.",
            choices={
                "palette": (),
                "looks (DINOv2)": _hub("0.35 GB"),
                "content (SigLIP 2)": _hub("1.5 GB"),
                "content (CLIP)": _hub("1.7 GB"),
                "local folder": (
                    Input(
                        "folder",
                        "COMBO",
                        "A DINOv2, DINOv3, CLIP or SigLIP in transformers' layout, in models/gdro.",
                        files="judges",
                    ),
                ),
            },
        ),
        Input(
            "goal",
            "DYNAMICCOMBO",
            "What you want: like the references, not like any of them, or like one without copying it.",
            choices={
                "like these": (
                    Input(
                        "several",
                        "COMBO",
                        "With several references: like all of them on average, or like the nearest one.",
                        default="mean",
                        options=("mean", "nearest"),
                    ),
                ),
                "not like these": (),
                "like, but no copy": (
                    Input(
                        "at_least",
                        "FLOAT",
                        "The lowest similarity to the nearest reference that is good enough.",
                        default=0.6,
                        min=0.01,
                        max=0.98,
                        step=0.01,
                    ),
                    Input(
                        "at_most",
                        "FLOAT",
                        "The highest similarity to the nearest reference that is no copy yet.",
                        default=0.9,
                        min=0.02,
                        max=0.99,
                        step=0.01,
                    ),
                ),
            },
        ),
    ),
    outputs=(
        Output("reward", "GDRO_REWARD", "From 0 to 1."),
        Output("summary", "STRING", "How many references there are, and how alike."),
    ),
    search_aliases=(
        "style",
        "reference",
        "look",
        "palette",
        "dino",
        "siglip",
        "clip",
        "ip-adapter",
    ),
)
