"""Stages that measure whether a LoRA helped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..imaging import image_tensor
from .base import Input, Output, Stage
from .before_work import Planned, check_judges, groups_node, prompts_of
from .shared import MODEL, SAMPLING, SIZE
from .sizes import check_size

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

    evaluation = evaluate.evaluate(
        host,
        model,
        [lora for lora in (aligned, aligned_2, aligned_3) if lora is not None],
        prompts,
        reward,
        result.EvaluationConfig(**settings),
        guard,
    )
    first = evaluation.results[0]
    corrected = first.corrected.gain if first.corrected is not None else 0.0
    return (
        image_tensor([evaluation.picture]),
        evaluation.table(),
        first.comparison.gain,
        first.comparison.gain_error,
        corrected,
        str(evaluation.report),
    )


def _check_evaluation(node: Planned) -> None:
    from ..evaluation.evaluate import check_enough

    prompts = prompts_of(node, "prompts")
    if prompts is not None:
        check_enough(prompts)
    check_size(node)
    check_judges(node, prompts, "reward", "guard")


def _check_comparison(node: Planned) -> None:
    from ..evaluation.rollout_comparison import same_rollout

    base, aligned = groups_node(node, "base"), groups_node(node, "aligned")
    if base is not None and aligned is not None and base.id == aligned.id:
        raise same_rollout()


def _compare_rollouts(host: Host, base: Any, aligned: Any) -> tuple[Any, ...]:
    from ..evaluation.report import side_by_side
    from ..evaluation.rollout_comparison import compare_rollouts

    comparison = compare_rollouts(base, aligned)
    picture = image_tensor([side_by_side({"base": base, "aligned": aligned}, rows=6)])
    return picture, comparison.table(), comparison.gain, comparison.gain_error


EVALUATE_ALIGNMENT = Stage(
    run=_evaluate,
    check=_check_evaluation,
    display_name="GDRO Evaluate Alignment",
    category="training",
    description=(
        "Compares base and aligned on prompts and seeds that were not trained on: rewards with "
        "intervals, diversity, distance from the base, and the pictures side by side."
    ),
    inputs=(
        MODEL,
        Input("aligned", "GDRO_ALIGNED", "From GDRO Train LoRA."),
        Input("prompts", "GDRO_PROMPTS", "Held-out prompts, not those of the training."),
        Input("reward", "GDRO_REWARD", "The reward to measure with."),
        Input(
            "guard",
            "GDRO_REWARD",
            "A second reward that notices when pictures degrade; adds the corrected score.",
            optional=True,
        ),
        Input("aligned_2", "GDRO_ALIGNED", "A second LoRA, on the same seeds.", optional=True),
        Input("aligned_3", "GDRO_ALIGNED", "A third LoRA, on the same seeds.", optional=True),
        Input(
            "images_per_prompt",
            "INT",
            "Seeds per prompt. More gives a narrower interval.",
            default=4,
            min=1,
            max=64,
        ),
        *SAMPLING,
        *SIZE,
        Input(
            "seed",
            "INT",
            "Different from the rollout's, so that no training image comes back.",
            default=1_000_000,
            min=0,
            max=2**53,
        ),
        Input(
            "strength",
            "FLOAT",
            "Strength of the LoRA.",
            default=1.0,
            min=-5.0,
            max=5.0,
            step=0.05,
        ),
    ),
    outputs=(
        Output("comparison", "IMAGE", "Base and aligned on the same seeds."),
        Output("table", "STRING", "The figures as text."),
        Output("gain", "FLOAT", "Mean reward of aligned minus base."),
        Output("gain_error", "FLOAT", "Its standard error over prompts."),
        Output(
            "corrected_gain",
            "FLOAT",
            "Corrected score of aligned minus base; 0 without a guard.",
        ),
        Output(
            "report", "STRING", "Path of a page with figures and pictures, which opens offline."
        ),
    ),
    is_output_node=True,
    preview="comparison",
)

COMPARE_ROLLOUTS = Stage(
    run=_compare_rollouts,
    check=_check_comparison,
    display_name="GDRO Compare Rollouts",
    category="training",
    description=(
        "Compares two scored rollouts of the same prompts and seeds, without and with an aligned "
        "LoRA: which is better, and by how much. For rewards that cannot judge new pictures "
        "themselves: numbers from your own nodes, or ratings."
    ),
    inputs=(
        Input(
            "base",
            "GDRO_ROLLOUT",
            "Scored groups of held-out prompts, made without a LoRA.",
        ),
        Input(
            "aligned",
            "GDRO_ROLLOUT",
            "The same with an aligned LoRA, scored by the same reward.",
        ),
    ),
    outputs=(
        Output("comparison", "IMAGE", "Both on the same seeds."),
        Output("table", "STRING", "The figures as text."),
        Output("gain", "FLOAT", "Mean reward of aligned minus base."),
        Output("gain_error", "FLOAT", "Its standard error over prompts."),
    ),
    is_output_node=True,
    preview="comparison",
    search_aliases=("evaluate", "a/b", "held-out"),
)
