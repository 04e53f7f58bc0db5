"""Stages that say what is wanted: the rewards, and scoring with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..stage import Input, Output, Stage
from .judges import DETECTOR
from .shared import image_tensor

if TYPE_CHECKING:
    from ..host import Host


def _ocr_reward(host: Host, mode: str) -> tuple[Any]:
    from .. import rewards

    return (rewards.create("ocr", mode=mode),)


def _composition_reward(
    host: Host, strict: bool, detector: dict[str, Any] | None = None
) -> tuple[Any]:
    from .. import rewards
    from .judges import photo_detector

    found = photo_detector(host, detector or {"detector": "shapes"})
    return (rewards.create("composition", strict=strict, detector=found),)


def _score_rollout(host: Host, rollout: Any, reward: Any) -> tuple[Any, ...]:
    from .. import scoring

    scored = scoring.score_rollout(host, rollout, reward)
    values = scored.scores()
    told = [scoring.summarise(values).text(), scoring.strongest_groups(scored, values)]
    text = "\n".join(filter(None, told))
    return (
        scored,
        image_tensor([scoring.histogram(values, reward.range)]),
        image_tensor([scoring.best_and_worst(scored, values)]),
        text,
    )


STAGES: dict[str, Stage] = {
    "GDRO_OCRReward": Stage(
        _ocr_reward,
        "GDRO OCR Reward",
        'Does the image show the text that the prompt has in "double quotes"? 1 where it is read in '
        "full, less by each wrong letter. Needs: pip install rapidocr onnxruntime",
        (
            Input(
                "mode",
                "COMBO",
                "line: the picture is one line of text (fast). detect: find the text first (slow). "
                "auto: line for pictures up to 128 pixels.",
                default="auto",
                options=("auto", "line", "detect"),
            ),
        ),
        (Output("reward", "GDRO_REWARD", "From 0 to 1."),),
        aliases=("text", "rapidocr"),
    ),
    "GDRO_CompositionReward": Stage(
        _composition_reward,
        "GDRO Composition Reward",
        "Are the things there that the prompt asks for, in number, colour and place? It sees the bundled "
        "model's shapes exactly, and anything in photographs with a detector.",
        (
            Input(
                "strict",
                "BOOLEAN",
                "Things that were not asked for count against the image. With shapes only.",
                default=True,
            ),
            DETECTOR,
        ),
        (Output("reward", "GDRO_REWARD", "From 0 to 1."),),
        aliases=("geneval", "counting"),
    ),
    "GDRO_ScoreRollout": Stage(
        _score_rollout,
        "GDRO Score Rollout",
        "Scores every image of the groups, and shows what there is to learn from. Only images without "
        "a score are scored.",
        (
            Input("rollout", "GDRO_ROLLOUT", "From GDRO Group Rollout."),
            Input("reward", "GDRO_REWARD", "What you want more of."),
        ),
        (
            Output("rollout", "GDRO_ROLLOUT", "The groups with their scores."),
            Output("histogram", "IMAGE", "How often each reward occurs."),
            Output(
                "best_and_worst",
                "IMAGE",
                "Best and worst picture of the groups that differ most, in pairs.",
            ),
            Output("summary", "STRING", "The scores in words."),
        ),
        output_node=True,
        preview="best_and_worst",
    ),
}
