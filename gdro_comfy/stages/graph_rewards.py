"""Stages that make a reward from other nodes' numbers, from ratings, or from several rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..imaging import image_tensor
from .base import Input, Output, Stage

if TYPE_CHECKING:
    from ..host import Host


def _rollout_images(host: Host, rollout: Any) -> tuple[Any, ...]:
    images, prompts = [], []
    total = len(rollout.prompts) * rollout.images_per_prompt
    for group in rollout.groups():
        for index in range(rollout.images_per_prompt):
            host.check_cancelled()
            images.append(image_tensor([group.image(index)]))
            prompts.append(group.prompt.text)
        host.progress(len(images), total, "reading pictures")
    return images, prompts


def _scores_from_graph(host: Host, rollout: Any, scores: list[Any], name: str) -> tuple[Any, ...]:
    from ..rewards.precomputed import PrecomputedReward, read_numbers

    _check_name(name)
    values = read_numbers(rollout, scores)
    source = "GDRO Rollout Images, your nodes, GDRO Scores from Graph"
    return (PrecomputedReward(name, rollout, values, source),)


def _rating_reward(host: Host, rollout: Any, kind: str, least_groups: int) -> tuple[Any, str]:
    from ..rewards import rating

    reward = rating.from_ratings(rollout, kind, least_groups)
    return reward, rating.describe(rollout)


def _check_name(name: str) -> None:
    """Raise ``InputError`` unless the text can name a reward in files and formulas."""
    if not (name.isascii() and name.isalnum() and name[0].isalpha() and name.islower()):
        raise InputError(
            "name",
            f"{name!r} cannot name a reward",
            "Use lowercase letters and digits, starting with a letter: sharpness, style2.",
        )


def _measure_image(host: Host, image: Any, measure: str) -> tuple[Any]:
    from ..rewards import measure as measures

    return (measures.measure(image.cpu().numpy(), measure),)


def _combine(
    host: Host, rewards: Any, rule: Any, rollout: Any = None, floors: str | None = ""
) -> tuple[Any, str]:
    from ..rewards.combine import from_node
    from ..rollouts import scoring

    reward = from_node(rewards, rule, floors or "")
    if rollout is None:
        names = ", ".join(reward.names)
        return reward, f"{names}. Connect a rollout to see which of them decides the ranking."
    values = reward.part_scores(rollout, lambda r: scoring.score_rollout(host, rollout, r).scores())
    return reward, reward.explain(values)


ROLLOUT_IMAGES = Stage(
    run=_rollout_images,
    display_name="GDRO Rollout Images",
    category="rewards",
    description=(
        "Outputs the pictures of a rollout and their prompts one by one, for any nodes that turn "
        "a picture into a number. Those nodes run once for each picture."
    ),
    inputs=(Input("rollout", "GDRO_ROLLOUT", "From GDRO Group Rollout."),),
    outputs=(
        Output("images", "IMAGE", "All pictures, group after group.", is_list=True),
        Output("prompts", "STRING", "The prompt of each picture.", is_list=True),
    ),
    search_aliases=("list", "custom reward"),
)

MEASURE_IMAGE = Stage(
    run=_measure_image,
    display_name="GDRO Measure Image",
    category="rewards",
    description=(
        "Turns a picture into a number: its brightness, contrast, colourfulness or sharpness."
    ),
    inputs=(
        Input("image", "IMAGE", "The picture; for a batch, the mean."),
        Input(
            "measure",
            "COMBO",
            "brightness: mean luma, 0 to 1. contrast: its standard deviation, 0 to 0.5. "
            "colourfulness: 0 for grey, 0.4 for garish. sharpness: standard deviation of the "
            "Laplacian.",
            default="colourfulness",
            options=("brightness", "contrast", "colourfulness", "sharpness"),
        ),
    ),
    outputs=(Output("value", "FLOAT", "The number."),),
    search_aliases=("brightness", "contrast", "colourfulness", "sharpness", "statistics"),
)

SCORES_FROM_GRAPH = Stage(
    run=_scores_from_graph,
    display_name="GDRO Scores from Graph",
    category="rewards",
    description=(
        "Makes a reward from the numbers that your nodes gave the pictures of GDRO Rollout "
        "Images. It is for these pictures only."
    ),
    inputs=(
        Input("rollout", "GDRO_ROLLOUT", "The rollout that is connected to GDRO Rollout Images."),
        Input(
            "scores",
            "FLOAT,INT",
            "One number per picture, in the same order. Higher is better.",
            is_list=True,
        ),
        Input("name", "STRING", "The reward's name in files and tables.", default="graph"),
    ),
    outputs=(Output("reward", "GDRO_REWARD", "The numbers, for this rollout only."),),
    search_aliases=("custom reward", "list"),
)

RATING_REWARD = Stage(
    run=_rating_reward,
    display_name="GDRO Rating Reward",
    category="rewards",
    description=(
        "Your own taste as a reward: rate the pictures here. The nodes after this one wait until "
        "enough groups are rated."
    ),
    inputs=(
        Input("rollout", "GDRO_ROLLOUT", "The groups to rate, from GDRO Group Rollout."),
        Input(
            "kind",
            "COMBO",
            "stars: 1 to 5 become 0 to 1. order: only which picture of a group is better counts, "
            "not by how much; it trains as a ranking.",
            default="stars",
            options=("stars", "order"),
        ),
        Input(
            "least_groups",
            "INT",
            "Wait until this many groups have two pictures with different ratings (all groups, if "
            "there are fewer).",
            default=4,
            min=1,
            max=100000,
        ),
    ),
    outputs=(
        Output("reward", "GDRO_REWARD", "Your ratings, for the pictures of this rollout only."),
        Output("summary", "STRING", "How much has been rated."),
    ),
    is_output_node=True,
    search_aliases=("stars", "taste", "human feedback", "gallery", "rate"),
    watches=("ratings.jsonl",),
)

COMBINE_REWARDS = Stage(
    run=_combine,
    display_name="GDRO Combine Rewards",
    category="rewards",
    description=(
        "Combines several rewards into one, by weights, a formula or rank, with a floor under some if you "
        "like, and says which of them decides."
    ),
    inputs=(
        Input(
            "rewards",
            "AUTOGROW",
            "Two or more rewards; a new socket appears when you connect one.",
            min=2,
            max=100,
            template=Input("reward", "GDRO_REWARD", "A reward."),
        ),
        Input(
            "rule",
            "DYNAMICCOMBO",
            "How they are combined into one number.",
            choices={
                "weights": (
                    Input(
                        "weights",
                        "STRING",
                        "One per reward, in their order: 1, 0.5. Empty means 1 each; a weight "
                        "below 0 asks for less. The result is the weighted mean.",
                        default="",
                    ),
                    Input(
                        "normalisation",
                        "COMBO",
                        "Applied to each reward before weighting. none: unchanged. per group: "
                        "minus the group's mean, divided by its standard deviation. whole "
                        "rollout: the same over all pictures.",
                        default="none",
                        options=("none", "per group", "whole rollout"),
                    ),
                ),
                "formula": (
                    Input(
                        "formula",
                        "STRING",
                        "Names of the rewards (or reward0, reward1, ...), numbers, + - * /, min, "
                        "max, clip.",
                        default="reward0 * reward1",
                    ),
                ),
                "pareto": (),
            },
        ),
        Input(
            "rollout",
            "GDRO_ROLLOUT",
            "If connected, the rewards score these pictures, and the summary says how far they "
            "agree.",
            optional=True,
        ),
        Input(
            "floors",
            "STRING",
            "The least that is enough of a reward: composition 0.8. A picture below it ranks behind all "
            "that reach it. Empty: none.",
            default="",
            optional=True,
        ),
    ),
    outputs=(
        Output("reward", "GDRO_REWARD", "The combined reward."),
        Output("summary", "STRING", "How far the rewards agree, and which one decides."),
    ),
    search_aliases=("weights", "formula", "mix", "multi"),
)
