"""Stages of rewards that other networks give: a vision-language model, preference models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .base import Input, Output, Stage

if TYPE_CHECKING:
    from ..host import Host


def _folder(host: Host, name: str | None) -> Path:
    """A local folder of weights by the name in the list."""
    found = host.model_files("judges")
    if name not in found:
        raise InputError(
            "folder",
            f"{name!r} is not among the folders of judges",
            f"There are: {', '.join(found) or 'none'}. Put one into models/LLM or models/gdro.",
        )
    return found[name]


def _vlm_reward(
    host: Host, ask: dict[str, Any], answered_by: dict[str, Any], on_refusal: str
) -> tuple[Any, str]:
    from .. import rewards
    from ..rewards import rubric
    from ..rewards.local_judge import LocalJudge
    from ..rewards.openai_endpoint import Endpoint, EndpointConfig

    asked = {name: value for name, value in ask.items() if name != "ask"}
    question = rubric.question(**asked) if asked else rubric.unified_reward()
    given = {name: value for name, value in answered_by.items() if name != "answered_by"}
    if answered_by["answered_by"] == "endpoint":
        judge: Any = Endpoint(EndpointConfig(**given), host.judge_keys)
    else:
        judge = LocalJudge(_folder(host, given.pop("folder")), host.device(), **given)
    reward = rewards.create(
        "vlm",
        rubric=question,
        judge=judge,
        on_refusal=on_refusal,
        folder=host.output_dir / "gdro" / "answers",
    )
    return reward, f"1,000 pictures of 1024 x 1024: {judge.estimate(1000, (1024, 1024), question)}"


def _preference_reward(host: Host, kind: str, weights: dict[str, Any]) -> tuple[Any]:
    from .. import rewards

    local = weights["weights"] == "local folder"
    folder = _folder(host, weights["folder"]) if local else None
    download = bool(weights.get("download"))
    return (
        rewards.create(
            "preference", kind=kind, folder=folder, download=download, device=host.device()
        ),
    )


def photo_detector(host: Host, chosen: dict[str, Any]) -> Any:
    """The detector of the composition reward; None for shapes."""
    from ..rewards.detection import COLOR_MODEL, DETECTORS, PhotoDetector

    kind = chosen["detector"]
    if kind == "shapes":
        return None
    if kind == "local folder":
        source: Any = _folder(host, chosen["folder"])
        colors: Any = _folder(host, chosen["color_folder"])
    else:
        source, colors = DETECTORS[kind], COLOR_MODEL
    download = bool(chosen.get("download"))
    return PhotoDetector(source, colors, chosen["threshold"], download, host.device())


def _threshold(default: float) -> Input:
    return Input(
        "threshold",
        "FLOAT",
        "Least confidence of a thing. Higher: fewer things are seen twice, more are missed.",
        default=default,
        minimum=0.01,
        maximum=0.99,
        step=0.01,
    )


_DOWNLOAD = Input(
    "download",
    "BOOLEAN",
    "Fetch the detector and CLIP (2.5 GB) if they are not on this machine yet. Off: no network.",
    default=False,
)
DETECTOR = Input(
    "detector",
    "DYNAMIC",
    "What finds the things. shapes: the bundled model's, exactly. The others: anything in photographs.",
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
                "A CLIP in transformers' layout, which tells colours, in models/gdro.",
                files="judges",
            ),
        ),
    },
)

_LONGEST_SIDE = Input(
    "longest_side",
    "INT",
    "Larger pictures are made smaller before they are shown to the model, in pixels.",
    default=1024,
    minimum=64,
    maximum=4096,
    advanced=True,
)
_MAX_TOKENS = Input(
    "max_tokens",
    "INT",
    "Longest answer, in tokens. Models that think before they answer need thousands.",
    default=512,
    minimum=1,
    maximum=32768,
    advanced=True,
)

STAGES: dict[str, Stage] = {
    "GDRO_VLMReward": Stage(
        _vlm_reward,
        "GDRO VLM Reward",
        "A vision-language model looks at every picture and answers your question with a number. Nothing "
        "is sent anywhere unless you type an address.",
        (
            Input(
                "ask",
                "DYNAMIC",
                "Your own question, or UnifiedReward's three scores: alignment, coherence, style.",
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
                            minimum=-1000.0,
                            maximum=1000.0,
                        ),
                        Input(
                            "best",
                            "FLOAT",
                            "The best score. May be less than the worst.",
                            default=5.0,
                            minimum=-1000.0,
                            maximum=1000.0,
                        ),
                        Input(
                            "reason",
                            "BOOLEAN",
                            "Ask for a sentence of reason before the score. Costs more, and scores differ "
                            "less inside a group.",
                            default=False,
                            advanced=True,
                        ),
                    ),
                    "UnifiedReward": (),
                },
            ),
            Input(
                "answered_by",
                "DYNAMIC",
                "A server that speaks OpenAI's protocol (Ollama, LM Studio, vLLM), or a folder here.",
                choices={
                    "endpoint": (
                        Input(
                            "address",
                            "STRING",
                            "Where the server is, e.g. http://localhost:11434/v1. Pictures go there. A key "
                            "goes into ComfyUI's settings, never here.",
                            default="",
                        ),
                        Input(
                            "model",
                            "STRING",
                            "The model's name on that server. It has to be one that sees pictures.",
                            default="",
                        ),
                        Input(
                            "concurrency",
                            "INT",
                            "Questions asked at once.",
                            default=4,
                            minimum=1,
                            maximum=64,
                        ),
                        Input(
                            "time_limit",
                            "FLOAT",
                            "Seconds for one answer.",
                            default=120.0,
                            minimum=1.0,
                            maximum=3600.0,
                            advanced=True,
                        ),
                        Input(
                            "retries",
                            "INT",
                            "How often a question is asked again after a failure that may pass.",
                            default=4,
                            minimum=0,
                            maximum=20,
                            advanced=True,
                        ),
                        _LONGEST_SIDE,
                        _MAX_TOKENS,
                        Input(
                            "price",
                            "FLOAT",
                            "Price of a million tokens read, for the estimate; 0 leaves it out.",
                            default=0.0,
                            minimum=0.0,
                            maximum=10000.0,
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
            ),
            Input(
                "on_refusal",
                "COMBO",
                "When the model gives no score for a picture: stop and name it, or give it the worst score.",
                default="stop",
                options=("stop", "worst score"),
            ),
        ),
        (
            Output("reward", "GDRO_REWARD", "From 0 (worst) to 1 (best)."),
            Output("summary", "STRING", "An estimate of what 1,000 pictures cost."),
        ),
        aliases=("llm", "judge", "ollama", "openai", "unifiedreward"),
    ),
    "GDRO_PreferenceReward": Stage(
        _preference_reward,
        "GDRO Preference Reward",
        "A preference model says how well people would like the picture: PickScore, HPSv2.1, ImageReward, "
        "CLIP score or LAION aesthetic.",
        (
            Input(
                "kind",
                "COMBO",
                "Which model. All but LAION aesthetic also look at how the picture fits its prompt.",
                default="PickScore",
                options=("PickScore", "HPSv2.1", "ImageReward", "CLIP score", "LAION aesthetic"),
            ),
            Input(
                "weights",
                "DYNAMIC",
                "Where its weights come from.",
                choices={
                    "Hugging Face hub": (
                        Input(
                            "download",
                            "BOOLEAN",
                            "Fetch the weights (1.7 to 4 GB) if they are not on this machine yet. Off: "
                            "no network.",
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
        (Output("reward", "GDRO_REWARD", "About 0 (poor) to 1 (excellent)."),),
        aliases=("pickscore", "hps", "imagereward", "clip score", "aesthetic"),
    ),
}
