"""Stages that say what is wanted: the rewards, and scoring with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Input, Output, Stage
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


def _installed_reward(host: Host, reward: str, settings: str) -> tuple[Any, str]:
    from .. import rewards
    from ..rewards.installed import read_settings

    made: Any = rewards.create("installed", reward=reward, settings=read_settings(settings))
    return made, made.about()


def _installed() -> list[str]:
    from ..rewards import installed

    return installed.labels()


def _score_rollout(host: Host, rollout: Any, reward: Any) -> tuple[Any, ...]:
    from ..rollouts import scoring, summary

    scored = scoring.score_rollout(host, rollout, reward)
    values = scored.scores()
    told = [summary.summarise(values).text(), summary.strongest_groups(scored, values)]
    text = "\n".join(filter(None, told))
    return (
        scored,
        image_tensor([summary.histogram(values, reward.range)]),
        image_tensor([summary.best_and_worst(scored, values)]),
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
    "GDRO_InstalledReward": Stage(
        _installed_reward,
        "GDRO Installed Reward",
        "A reward of another Python package that is installed beside ComfyUI. A workflow names it, and "
        "never carries its code.",
        (
            Input(
                "reward",
                "COMBO",
                "Which one: its name, its package, and what the package says of itself.",
                listing=_installed,
            ),
            Input(
                "settings",
                "STRING",
                "Of the reward, one a line: name = value. Or a JSON object. Empty leaves them as they are.",
                default="",
                multiline=True,
            ),
        ),
        (
            Output("reward", "GDRO_REWARD", "What the package made."),
            Output("summary", "STRING", "What it measures, from where to where, and its settings."),
        ),
        aliases=("custom reward", "python", "package", "plugin", "entry point"),
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
