"""The stage that says whether a LoRA helped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import Input, Output, Stage
from .shared import MODEL, SIZE, image_tensor, sampling

if TYPE_CHECKING:
    from ..host import Host


def _evaluate(
    host: Host,
    model: Any,
    aligned: Any,
    prompts: Any,
    reward: Any,
    guard: Any,
    aligned_2: Any,
    aligned_3: Any,
    **settings: Any,
) -> tuple[Any, ...]:
    from ..evaluation import evaluate, result

    found = evaluate.evaluate(
        host,
        model,
        [one for one in (aligned, aligned_2, aligned_3) if one is not None],
        prompts,
        reward,
        result.EvaluationConfig(**settings),
        guard,
    )
    first = found.results[0]
    corrected = first.corrected.gain if first.corrected is not None else 0.0
    return (
        image_tensor([found.picture]),
        found.table(),
        first.comparison.gain,
        first.comparison.gain_error,
        corrected,
        str(found.report),
    )


STAGES: dict[str, Stage] = {
    "GDRO_EvaluateAlignment": Stage(
        _evaluate,
        "GDRO Evaluate Alignment",
        "Base against aligned on prompts and seeds that were not trained on: rewards with intervals, "
        "diversity, distance from the base, and the pictures side by side.",
        (
            MODEL,
            Input("aligned", "GDRO_ALIGNED", "From GDRO Train LoRA."),
            Input("prompts", "GDRO_PROMPTS", "Held-out prompts: not those of the training."),
            Input("reward", "GDRO_REWARD", "What to measure."),
            Input(
                "guard",
                "GDRO_REWARD",
                "A second reward that sees pictures rot: gives the corrected score.",
                optional=True,
            ),
            Input("aligned_2", "GDRO_ALIGNED", "A second LoRA, on the same seeds.", optional=True),
            Input("aligned_3", "GDRO_ALIGNED", "A third LoRA, on the same seeds.", optional=True),
            Input(
                "images_per_prompt",
                "INT",
                "Seeds per prompt. More gives a narrower interval.",
                default=4,
                minimum=1,
                maximum=64,
            ),
            *sampling(1.0, 28),
            *SIZE,
            Input(
                "seed",
                "INT",
                "Other than the rollout's, so that no training image comes back.",
                default=1_000_000,
                minimum=0,
                maximum=2**53,
            ),
            Input(
                "strength",
                "FLOAT",
                "Of the LoRA.",
                default=1.0,
                minimum=-5.0,
                maximum=5.0,
                step=0.05,
            ),
        ),
        (
            Output("comparison", "IMAGE", "Base and aligned on the same seeds."),
            Output("table", "STRING", "The figures in words."),
            Output("gain", "FLOAT", "Mean reward of aligned minus base."),
            Output("gain_error", "FLOAT", "Its standard error over prompts."),
            Output(
                "corrected_gain",
                "FLOAT",
                "Corrected score of aligned minus base; 0 without a guard.",
            ),
            Output("report", "STRING", "A page with figures and pictures that opens offline."),
        ),
        output_node=True,
        preview="comparison",
    ),
}
