"""Stages of rewards in which another network judges: a vision-language or a preference model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Input, Output, Stage
from .before_work import check_setting
from .shared import judge_folder

if TYPE_CHECKING:
    from ..host import Host


ANSWERS = "answers"
"""The folder below ``output/gdro`` with the answers of judges."""


def judge_of(host: Host, answered_by: dict[str, Any]) -> Any:
    """Return the judge that was chosen at ``ANSWERED_BY``."""
    from ..rewards.local_judge import LocalJudge
    from ..rewards.openai_endpoint import Endpoint, EndpointConfig

    settings = {name: value for name, value in answered_by.items() if name != "answered_by"}
    if answered_by["answered_by"] == "endpoint":
        return Endpoint(EndpointConfig(**settings), host.judge_keys)
    return LocalJudge(judge_folder(host, settings.pop("folder")), host.device(), **settings)


def _rubric(ask: dict[str, Any]) -> Any:
    """Return what is asked by the choice at ``ask``."""
    from ..rewards import presets, rubric

    wording = {name: value for name, value in ask.items() if name != "ask"}
    made = {
        "question": rubric.question,
        "UnifiedReward": rubric.unified_reward,
        "follows the prompt": presets.follows_the_prompt,
        "hands and faces": presets.hands_and_faces,
        "checklist": lambda questions: presets.checklist(questions),
    }
    return made[ask["ask"]](**wording)


def _vlm_reward(
    host: Host, ask: dict[str, Any], answered_by: dict[str, Any], on_refusal: str
) -> tuple[Any, str]:
    from .. import rewards

    question = _rubric(ask)
    judge = judge_of(host, answered_by)
    reward = rewards.create(
        "vlm",
        rubric=question,
        judge=judge,
        on_refusal=on_refusal,
        folder=host.output_dir / "gdro" / ANSWERS,
    )
    return reward, f"1,000 pictures of 1024 x 1024: {judge.estimate(1000, (1024, 1024), question)}"


def _preference_reward(host: Host, kind: str, weights: dict[str, Any]) -> tuple[Any]:
    from .. import rewards

    local = weights["weights"] == "local folder"
    folder = judge_folder(host, weights["folder"]) if local else None
    download = bool(weights.get("download"))
    return (
        rewards.create(
            "preference", kind=kind, folder=folder, download=download, device=host.device()
        ),
    )


_LONGEST_SIDE = Input(
    "longest_side",
    "INT",
    "Larger pictures are scaled down to this, in pixels, before the model sees them.",
    default=1024,
    min=64,
    max=4096,
    advanced=True,
)
_MAX_TOKENS = Input(
    "max_tokens",
    "INT",
    "Maximum length of an answer, in tokens. Models that think first need thousands.",
    default=512,
    min=1,
    max=32768,
    advanced=True,
)

ANSWERED_BY = Input(
    "answered_by",
    "DYNAMICCOMBO",
    "A server that speaks OpenAI's protocol (Ollama, LM Studio, vLLM), or a local folder.",
    choices={
        "endpoint": (
            Input(
                "address",
                "STRING",
                "The server's address, e.g. http://localhost:11434/v1. Pictures are sent "
                "there. A key goes into ComfyUI's settings, never here.",
                default="",
            ),
            Input(
                "model",
                "STRING",
                "The model's name on that server. It must be one that sees pictures.",
                default="",
            ),
            Input(
                "concurrency",
                "INT",
                "Questions sent at the same time.",
                default=4,
                min=1,
                max=64,
            ),
            Input(
                "time_limit",
                "FLOAT",
                "Seconds for one answer.",
                default=120.0,
                min=1.0,
                max=3600.0,
                advanced=True,
            ),
            Input(
                "retries",
                "INT",
                "How often to ask again after a temporary failure.",
                default=4,
                min=0,
                max=20,
                advanced=True,
            ),
            _LONGEST_SIDE,
            _MAX_TOKENS,
            Input(
                "price",
                "FLOAT",
                "Price per million input tokens, for the estimate; 0 leaves it out.",
                default=0.0,
                min=0.0,
                max=10000.0,
                advanced=True,
            ),
        ),
        "local model": (
            Input(
                "folder",
                "COMBO",
                "An image-text model in transformers' layout, in models/LLM or models/gdro.",
                files="judges",
            ),
            _LONGEST_SIDE,
            _MAX_TOKENS,
        ),
    },
)
"""Who answers questions about pictures; ``judge_of`` makes it."""

VLM_REWARD = Stage(
    run=_vlm_reward,
    display_name="GDRO VLM Reward",
    category="rewards",
    description=(
        "A vision-language model looks at each picture and answers your question with a number. "
        "Nothing is sent anywhere unless you enter an address."
    ),
    inputs=(
        Input(
            "ask",
            "DYNAMICCOMBO",
            "Your own question, a list of yes-or-no questions, or a ready one: follows the prompt, hands "
            "and faces, UnifiedReward's three scores.",
            choices={
                "question": (
                    Input(
                        "question",
                        "STRING",
                        "What to judge, in plain words. {prompt} stands for the picture's prompt.",
                        default="How cosy does this room look?",
                        multiline=True,
                    ),
                    Input(
                        "worst",
                        "FLOAT",
                        "The worst score.",
                        default=1.0,
                        min=-1000.0,
                        max=1000.0,
                    ),
                    Input(
                        "best",
                        "FLOAT",
                        "The best score. It may be less than the worst.",
                        default=5.0,
                        min=-1000.0,
                        max=1000.0,
                    ),
                    Input(
                        "reason",
                        "BOOLEAN",
                        "Ask for a one-sentence reason before the score. Costs more, and scores "
                        "differ less within a group.",
                        default=False,
                        advanced=True,
                    ),
                ),
                "UnifiedReward": (),
                "follows the prompt": (),
                "hands and faces": (),
                "checklist": (
                    Input(
                        "questions",
                        "STRING",
                        "Questions with yes for an answer, one a line. {prompt} stands for the picture's "
                        "prompt. The reward is the share of yes.",
                        default="Does the picture show {prompt}?\nIs it free of text?",
                        multiline=True,
                    ),
                ),
            },
        ),
        ANSWERED_BY,
        Input(
            "on_refusal",
            "COMBO",
            "If the model gives no score for a picture: stop and name the picture, or give it the "
            "worst score.",
            default="stop",
            options=("stop", "worst score"),
        ),
    ),
    outputs=(
        Output("reward", "GDRO_REWARD", "From 0 (worst) to 1 (best)."),
        Output("summary", "STRING", "An estimate of what 1,000 pictures cost."),
    ),
    search_aliases=("llm", "judge", "ollama", "openai", "unifiedreward"),
)

PREFERENCE_REWARD = Stage(
    run=_preference_reward,
    check=check_setting,
    settings_only=True,
    display_name="GDRO Preference Reward",
    category="rewards",
    description=(
        "A preference model predicts how much people would like the picture: PickScore, HPSv2.1, "
        "ImageReward, CLIP score or LAION aesthetic."
    ),
    inputs=(
        Input(
            "kind",
            "COMBO",
            "Which model to use. All but LAION aesthetic also judge how well the picture fits its "
            "prompt.",
            default="PickScore",
            options=("PickScore", "HPSv2.1", "ImageReward", "CLIP score", "LAION aesthetic"),
        ),
        Input(
            "weights",
            "DYNAMICCOMBO",
            "Where its weights come from.",
            choices={
                "Hugging Face hub": (
                    Input(
                        "download",
                        "BOOLEAN",
                        "Downloads the weights (1.7 to 4 GB) if they are not on this machine yet. "
                        "Off: no network access.",
                        default=False,
                    ),
                ),
                "local folder": (
                    Input(
                        "folder",
                        "COMBO",
                        "A folder with the weights (*.safetensors) and the tokenizer, in models/gdro.",
                        files="judges",
                    ),
                ),
            },
        ),
    ),
    outputs=(Output("reward", "GDRO_REWARD", "About 0 (poor) to 1 (excellent)."),),
    search_aliases=("pickscore", "hps", "imagereward", "clip score", "aesthetic"),
)
