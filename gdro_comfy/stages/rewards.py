"""Stages of rewards that judge images by themselves, and the stage that scores with any reward."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..imaging import image_tensor
from .base import Input, Output, Stage
from .before_work import check_scoring, check_setting
from .shared import judge_folder

if TYPE_CHECKING:
    from ..host import Host


def _ocr_reward(host: Host, mode: str) -> tuple[Any]:
    from .. import rewards

    return (rewards.create("ocr", mode=mode),)


def _detector(host: Host, chosen: dict[str, Any]) -> Any:
    """Return the detector of the composition reward, None for the bundled model's shapes."""
    from ..rewards.detection import COLOR_MODEL, DETECTORS, PhotoDetector

    kind = chosen["detector"]
    if kind == "shapes":
        return None
    if kind == "local folder":
        source: Any = judge_folder(host, chosen["folder"])
        colors: Any = judge_folder(host, chosen["color_folder"], "color_folder")
    else:
        source, colors = DETECTORS[kind], COLOR_MODEL
    download = bool(chosen.get("download"))
    return PhotoDetector(source, colors, chosen["threshold"], download, host.device())


def _composition_reward(
    host: Host, strict: bool, detector: dict[str, Any] | None = None
) -> tuple[Any]:
    from .. import rewards

    photo_detector = _detector(host, detector or {"detector": "shapes"})
    return (rewards.create("composition", strict=strict, detector=photo_detector),)


def _installed_reward(host: Host, reward: str, settings: str) -> tuple[Any, str]:
    from .. import rewards
    from ..rewards.installed import read_settings

    installed: Any = rewards.create("installed", reward=reward, settings=read_settings(settings))
    return installed, installed.about()


def _installed_rewards() -> list[str]:
    from ..rewards import installed

    return installed.labels()


def _image_quality_reward(host: Host, measure: str) -> tuple[Any]:
    from .. import rewards

    return (rewards.create("quality", measure=measure),)


def _score_rollout(host: Host, rollout: Any, reward: Any) -> tuple[Any, ...]:
    from ..rollouts import scoring, summary

    scored = scoring.score_together(host, rollout, reward)
    values = scored.scores()
    texts = [summary.summarise(values).text(), summary.strongest_groups(scored, values)]
    text = "\n".join(filter(None, texts))
    return (
        scored,
        image_tensor([summary.histogram(values, reward.range)]),
        image_tensor([summary.best_and_worst(scored, values)]),
        text,
    )


def _threshold(default: float) -> Input:
    return Input(
        "threshold",
        "FLOAT",
        "Minimum confidence. Higher: fewer things are counted twice, more are missed.",
        default=default,
        min=0.01,
        max=0.99,
        step=0.01,
    )


_DOWNLOAD = Input(
    "download",
    "BOOLEAN",
    "Downloads the detector and CLIP (2.5 GB) if they are not on this machine yet. Off: no "
    "network access.",
    default=False,
)
_DETECTOR = Input(
    "detector",
    "DYNAMICCOMBO",
    "What finds the things. shapes: the bundled model's shapes, exactly. The others: anything in "
    "photographs.",
    default="shapes",
    optional=True,
    choices={
        "shapes": (),
        "OWLv2": (_threshold(0.25), _DOWNLOAD),
        "Grounding DINO": (_threshold(0.3), _DOWNLOAD),
        "local folder": (
            _threshold(0.25),
            Input(
                "folder",
                "COMBO",
                "An OWLv2 or Grounding DINO in transformers' layout, in models/gdro.",
                files="judges",
            ),
            Input(
                "color_folder",
                "COMBO",
                "A CLIP in transformers' layout, in models/gdro. It recognises the colours.",
                files="judges",
            ),
        ),
    },
)

OCR_REWARD = Stage(
    run=_ocr_reward,
    check=check_setting,
    settings_only=True,
    display_name="GDRO OCR Reward",
    category="rewards",
    description=(
        'Checks whether the image shows the text that the prompt has in "double quotes": 1 if it '
        "is read completely, less for each wrong letter. Needs: pip install rapidocr onnxruntime"
    ),
    inputs=(
        Input(
            "mode",
            "COMBO",
            "line: the picture is one line of text (fast). detect: find the text first (slow). "
            "auto: line for pictures up to 128 pixels.",
            default="auto",
            options=("auto", "line", "detect"),
        ),
    ),
    outputs=(Output("reward", "GDRO_REWARD", "From 0 to 1."),),
    search_aliases=("text", "rapidocr"),
)

COMPOSITION_REWARD = Stage(
    run=_composition_reward,
    check=check_setting,
    settings_only=True,
    display_name="GDRO Composition Reward",
    category="rewards",
    description=(
        "Checks whether the picture shows what the prompt asks for, in the right number, colour "
        "and place. It recognises the bundled model's shapes exactly, and anything in photographs "
        "with a detector."
    ),
    inputs=(
        Input(
            "strict",
            "BOOLEAN",
            "Things that the prompt does not ask for count against the image. With shapes only.",
            default=True,
        ),
        _DETECTOR,
    ),
    outputs=(Output("reward", "GDRO_REWARD", "From 0 to 1."),),
    search_aliases=("geneval", "counting"),
)

IMAGE_QUALITY_REWARD = Stage(
    run=_image_quality_reward,
    settings_only=True,
    display_name="GDRO Image Quality Reward",
    category="rewards",
    description=(
        "How undamaged a picture is, whatever it shows: no blur, noise, blocks, repeating grid, garish "
        "or clipped colours. Needs no weights; meant as a guard beside another reward."
    ),
    inputs=(
        Input(
            "measure",
            "COMBO",
            "all: the mean of all seven. The others look for one kind of damage only.",
            default="all",
            options=(
                "all",
                "blur",
                "noise",
                "blockiness",
                "grid",
                "high frequency",
                "saturation",
                "clipping",
            ),
        ),
    ),
    outputs=(Output("reward", "GDRO_REWARD", "From 0 (ruined) to 1 (undamaged)."),),
    search_aliases=("guard", "artifacts", "sharpness", "checkerboard", "jpeg", "technical quality"),
)

INSTALLED_REWARD = Stage(
    run=_installed_reward,
    display_name="GDRO Installed Reward",
    category="rewards",
    description=(
        "A reward from another Python package, installed next to ComfyUI. A workflow names it, "
        "but never contains its code."
    ),
    inputs=(
        Input(
            "reward",
            "COMBO",
            "The reward: its name, its package, and the package's description of it.",
            listing=_installed_rewards,
        ),
        Input(
            "settings",
            "STRING",
            "The reward's settings, one per line: name = value. Or a JSON object. Empty uses the "
            "defaults.",
            default="",
            multiline=True,
        ),
    ),
    outputs=(
        Output("reward", "GDRO_REWARD", "The package's reward."),
        Output("summary", "STRING", "What it measures, its range, and its settings."),
    ),
    search_aliases=("custom reward", "python", "package", "plugin", "entry point"),
)

SCORE_ROLLOUT = Stage(
    run=_score_rollout,
    check=lambda node: check_scoring(node, "reward"),
    display_name="GDRO Score Rollout",
    category="rewards",
    description=(
        "Scores every image of the groups and shows what can be learned from them. Only images "
        "without a score are scored."
    ),
    inputs=(
        Input("rollout", "GDRO_ROLLOUT", "From GDRO Group Rollout."),
        Input("reward", "GDRO_REWARD", "What you want more of."),
    ),
    outputs=(
        Output("rollout", "GDRO_ROLLOUT", "The groups with their scores."),
        Output("histogram", "IMAGE", "How often each reward occurs."),
        Output(
            "best_and_worst",
            "IMAGE",
            "The best and worst picture of the groups that differ most, in pairs.",
        ),
        Output("summary", "STRING", "The scores in words."),
    ),
    is_output_node=True,
    preview="best_and_worst",
)
