"""Stage that checks a reward on a rollout before anything is trained with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..imaging import contact_sheet, image_tensor
from .base import Input, Output, Stage
from .before_work import check_scoring

if TYPE_CHECKING:
    from ..host import Host


def _reward_check(host: Host, rollout: Any, reward: Any, other: Any = None) -> tuple[Any, ...]:
    from .. import rewards
    from ..rewards import rating, reward_check
    from ..rollouts import scoring, summary

    if other is None:
        other = rewards.create("quality")
    values = scoring.score_rollout(host, rollout, reward).scores()
    others = scoring.score_rollout(host, rollout, other).scores()
    properties = reward_check.cheap_properties(rollout, host.check_cancelled)
    lines = [
        f"{reward.name}, {values.size} pictures in {len(values)} groups",
        *reward_check.describe_spread(values),
        *reward_check.describe_stars(values, rating.stored_values(rollout, "order")),
        *reward_check.describe_cheap(values, properties),
    ]
    pairs, groups = reward_check.disagreements(values, others), rollout.groups()
    if not pairs:
        lines.append(f"There is no group in which {other.name} clearly prefers another picture.")
        return "\n".join(lines), image_tensor([summary.best_and_worst(rollout, values, 1)])
    lines.append(f"Shown: left what {reward.name} prefers, right what {other.name} prefers.")
    lines += [
        f"  {groups[pair.group].prompt.text!r}: picture {pair.preferred + 1} and picture "
        f"{pair.by_other + 1}"
        for pair in pairs
    ]
    images = [
        groups[pair.group].image(index)
        for pair in pairs
        for index in (pair.preferred, pair.by_other)
    ]
    return "\n".join(lines), image_tensor([contact_sheet(images, 4)])


REWARD_CHECK = Stage(
    run=_reward_check,
    check=lambda node: check_scoring(node, "reward", "other"),
    display_name="GDRO Reward Check",
    category="rewards",
    description=(
        "Says before any training what a reward is worth: how far it tells pictures apart, whether it "
        "agrees with your own stars, and whether brightness or file size would please it."
    ),
    inputs=(
        Input("rollout", "GDRO_ROLLOUT", "The groups to check it on, from GDRO Group Rollout."),
        Input("reward", "GDRO_REWARD", "The reward to check."),
        Input(
            "other",
            "GDRO_REWARD",
            "Shows pictures about which this one disagrees with the first. Without it: image quality.",
            optional=True,
        ),
    ),
    outputs=(
        Output("summary", "STRING", "What was found, in words."),
        Output(
            "disagreements",
            "IMAGE",
            "Pairs of one group: left the picture that the reward prefers, right the other's choice.",
        ),
    ),
    is_output_node=True,
    preview="disagreements",
    search_aliases=("bench", "test", "validate", "reward hacking", "correlation"),
    watches=("ratings.jsonl",),
)
