"""Stages that make a reward of whatever nodes the graph has, of a person's ratings, or of several
rewards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .base import Input, Output, Stage
from .shared import image_tensor

if TYPE_CHECKING:
    from ..host import Host


def _rollout_images(host: Host, rollout: Any) -> tuple[Any, ...]:
    images, prompts = [], []
    total = len(rollout.prompts) * rollout.images_per_prompt
    for group in rollout.groups():
        for place in range(rollout.images_per_prompt):
            host.check_cancelled()
            images.append(image_tensor([group.image(place)]))
            prompts.append(group.prompt.text)
        host.progress(len(images), total, "reading pictures")
    return images, prompts


def _scores_from_graph(host: Host, rollout: Any, scores: list[Any], name: str) -> tuple[Any, ...]:
    from ..rewards.precomputed import GivenReward, read_numbers

    check_name(name)
    values = read_numbers(rollout, scores)
    source = "GDRO Rollout Images, your nodes, GDRO Scores from Graph"
    return (GivenReward(name, rollout, values, source),)


def _rating_reward(host: Host, rollout: Any, kind: str, least_groups: int) -> tuple[Any, str]:
    from ..rewards import rating

    reward = rating.from_ratings(rollout, kind, least_groups)
    return reward, rating.in_words(rollout)


def check_name(name: str) -> None:
    """Raise ``InputError`` unless it can name a reward in files and formulas."""
    if not (name.isascii() and name.isalnum() and name[0].isalpha() and name.islower()):
        raise InputError(
            "name",
            f"{name!r} cannot name a reward",
            "Use small letters and digits, starting with a letter: sharpness, style2.",
        )


def _measure_image(host: Host, image: Any, measure: str) -> tuple[Any]:
    from ..rewards import measure as measures

    return (measures.measure(image.cpu().numpy(), measure),)


def _compare_rollouts(host: Host, base: Any, aligned: Any) -> tuple[Any, ...]:
    from ..evaluation import rollout_comparison as pairs

    found = pairs.compare_rollouts(base, aligned)
    shown = image_tensor([pairs.picture(base, aligned)])
    return shown, found.table(), found.gain, found.gain_error


def _combine(host: Host, rewards: Any, rule: Any, rollout: Any = None) -> tuple[Any, str]:
    from ..rewards.combine import from_node
    from ..rollouts import scoring

    reward = from_node(rewards, rule)
    if rollout is None:
        names = ", ".join(reward.names)
        return reward, f"{names}. Connect a rollout to see which of them decides the ranking."
    values = reward.parts(rollout, lambda r: scoring.score_rollout(host, rollout, r).scores())
    return reward, reward.explain(values)


STAGES: dict[str, Stage] = {
    "GDRO_RolloutImages": Stage(
        _rollout_images,
        "GDRO Rollout Images",
        "Hands out the pictures of a rollout and their prompts one by one, for any nodes that turn a "
        "picture into a number. Those nodes run once for each picture.",
        (Input("rollout", "GDRO_ROLLOUT", "From GDRO Group Rollout."),),
        (
            Output("images", "IMAGE", "Every picture, group after group.", is_list=True),
            Output("prompts", "STRING", "The prompt of each picture.", is_list=True),
        ),
        aliases=("list", "custom reward"),
    ),
    "GDRO_MeasureImage": Stage(
        _measure_image,
        "GDRO Measure Image",
        "Turns a picture into a number: how bright, rich in contrast, colourful or sharp it is.",
        (
            Input("image", "IMAGE", "The picture; of a batch, the mean is given."),
            Input(
                "measure",
                "COMBO",
                "brightness: mean luma, 0 to 1. contrast: its deviation, 0 to 0.5. colourfulness: 0 "
                "for grey, 0.4 for garish. sharpness: deviation of the Laplacian.",
                default="colourfulness",
                options=("brightness", "contrast", "colourfulness", "sharpness"),
            ),
        ),
        (Output("value", "FLOAT", "The number."),),
        aliases=("brightness", "contrast", "colourfulness", "sharpness", "statistics"),
    ),
    "GDRO_ScoresFromGraph": Stage(
        _scores_from_graph,
        "GDRO Scores from Graph",
        "Makes a reward of the numbers that your nodes gave the pictures of GDRO Rollout Images. It is "
        "for these pictures only.",
        (
            Input("rollout", "GDRO_ROLLOUT", "The rollout that GDRO Rollout Images had."),
            Input(
                "scores",
                "FLOAT,INT",
                "One number for each picture, in the same order. Higher is better.",
                is_list=True,
            ),
            Input(
                "name", "STRING", "What the reward is called in files and tables.", default="graph"
            ),
        ),
        (Output("reward", "GDRO_REWARD", "The numbers, bound to this rollout."),),
        aliases=("custom reward", "list"),
    ),
    "GDRO_CompareRollouts": Stage(
        _compare_rollouts,
        "GDRO Compare Rollouts",
        "Two scored rollouts of the same prompts and seeds, without and with an aligned LoRA: which is "
        "better, and by how much. For rewards that cannot judge new pictures themselves: numbers from "
        "your own nodes, or ratings.",
        (
            Input(
                "base",
                "GDRO_ROLLOUT",
                "Scored groups of prompts that were not trained on, made without a LoRA.",
            ),
            Input(
                "aligned",
                "GDRO_ROLLOUT",
                "The same with an aligned LoRA, and scored by the same reward.",
            ),
        ),
        (
            Output("comparison", "IMAGE", "Both on the same seeds."),
            Output("table", "STRING", "The figures in words."),
            Output("gain", "FLOAT", "Mean reward of aligned minus base."),
            Output("gain_error", "FLOAT", "Its standard error over prompts."),
        ),
        output_node=True,
        preview="comparison",
        aliases=("evaluate", "a/b", "held-out"),
    ),
    "GDRO_RatingReward": Stage(
        _rating_reward,
        "GDRO Rating Reward",
        "Your own taste: rate the pictures here, and what you like is the reward. Until enough groups are "
        "rated, the nodes behind wait.",
        (
            Input("rollout", "GDRO_ROLLOUT", "The groups to rate, from GDRO Group Rollout."),
            Input(
                "kind",
                "COMBO",
                "stars: 1 to 5 count as 0 to 1. order: only which picture of a group is better counts, "
                "not by how much; it trains as a ranking.",
                default="stars",
                options=("stars", "order"),
            ),
            Input(
                "least_groups",
                "INT",
                "Wait until so many groups have two pictures that are rated differently (all groups, if "
                "there are fewer).",
                default=4,
                minimum=1,
                maximum=100000,
            ),
        ),
        (
            Output("reward", "GDRO_REWARD", "Your ratings, bound to the pictures of this rollout."),
            Output("summary", "STRING", "How much is rated."),
        ),
        output_node=True,
        aliases=("stars", "taste", "human feedback", "gallery", "rate"),
        watches=("ratings.jsonl",),
    ),
    "GDRO_CombineRewards": Stage(
        _combine,
        "GDRO Combine Rewards",
        "Makes one reward of several, by weights or a formula, and says which of them decides.",
        (
            Input(
                "rewards",
                "GROW",
                "Two rewards or more; a new socket appears when one is taken.",
                minimum=2,
                maximum=100,
                grows=Input("reward", "GDRO_REWARD", "A reward."),
            ),
            Input(
                "rule",
                "DYNAMIC",
                "How they become one number.",
                choices={
                    "weights": (
                        Input(
                            "weights",
                            "STRING",
                            "One for each reward, in their order: 1, 0.5. Empty is 1 each; less than 0 "
                            "wants less of it. The result is the weighted mean.",
                            default="",
                        ),
                        Input(
                            "normalisation",
                            "COMBO",
                            "Of each reward, before it is weighted. none: as they are. per group: less "
                            "the group's mean, by its deviation. whole rollout: the same over all "
                            "pictures.",
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
                },
            ),
            Input(
                "rollout",
                "GDRO_ROLLOUT",
                "With it, the rewards score these pictures, and the summary says how far they agree.",
                optional=True,
            ),
        ),
        (
            Output("reward", "GDRO_REWARD", "All of them as one."),
            Output("summary", "STRING", "How far the rewards agree, and which one decides."),
        ),
        aliases=("weights", "formula", "mix", "multi"),
    ),
}
