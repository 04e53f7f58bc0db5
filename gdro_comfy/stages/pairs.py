"""Stage of the reward in which a vision-language model compares images two by two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Input, Output, Stage
from .judges import ANSWERED_BY, ANSWERS, judge_of

if TYPE_CHECKING:
    from ..host import Host


def _pairwise_reward(
    host: Host,
    question: str,
    answered_by: dict[str, Any],
    opponents: int,
    orders: str,
    on_refusal: str,
    reason: bool,
) -> tuple[Any, str]:
    from .. import rewards
    from ..rewards.pair_rubric import comparison

    reward: Any = rewards.create(
        "pairwise",
        rubric=comparison(question, reason),
        judge=judge_of(host, answered_by),
        opponents=opponents,
        orders=orders,
        on_refusal=on_refusal,
        folder=host.output_dir / "gdro" / ANSWERS,
        check_cancelled=host.check_cancelled,
    )
    return reward, "\n".join(reward.estimate(100, count, (1024, 1024)) for count in (6, 16))


PAIRWISE_REWARD = Stage(
    run=_pairwise_reward,
    display_name="GDRO Pairwise Judge",
    category="rewards",
    description=(
        "A vision-language model says which of two pictures of a group is better; the reward is how many "
        "comparisons a picture wins. Nothing is sent anywhere unless you enter an address."
    ),
    inputs=(
        Input(
            "question",
            "STRING",
            "What makes a picture the better one, in plain words. {prompt} stands for the pictures' prompt.",
            default="Which picture shows this better, and is better made: {prompt}?",
            multiline=True,
        ),
        ANSWERED_BY,
        Input(
            "opponents",
            "INT",
            "How many others each picture is compared with. All of them, if the group has not more; "
            "otherwise a fixed random choice.",
            default=7,
            min=1,
            max=63,
        ),
        Input(
            "orders",
            "COMBO",
            "balanced: each pair once, each picture first as often as second. both: each pair in both "
            "orders, a contradiction is a tie; twice the cost.",
            default="balanced",
            options=("balanced", "both"),
        ),
        Input(
            "on_refusal",
            "COMBO",
            "If the model gives no verdict on a pair: count it for neither picture, or stop and name it.",
            default="leave out",
            options=("leave out", "stop"),
        ),
        Input(
            "reason",
            "BOOLEAN",
            "Ask for a one-sentence reason before the verdict. Costs more.",
            default=False,
            advanced=True,
        ),
    ),
    outputs=(
        Output("reward", "GDRO_REWARD", "From 0 (loses all) to 1 (wins all), for groups only."),
        Output("summary", "STRING", "An estimate of what 100 groups of 6 and of 16 pictures cost."),
    ),
    search_aliases=(
        "llm",
        "vlm",
        "pref-grpo",
        "tournament",
        "preference",
        "compare",
        "unifiedreward",
    ),
)
