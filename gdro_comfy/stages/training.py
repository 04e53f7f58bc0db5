"""Stages that train a LoRA, and that say whether it helped."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..stage import Input, Output, Stage
from .algorithms import CHOICES
from .shared import MODEL, SIZE, image_tensor, sampling

if TYPE_CHECKING:
    from ..host import Host

_ALGORITHMS = {"gdro": "GDRO", "dgpo": "DGPO", "dpo": "DPO"}


def _train_lora(
    host: Host,
    model: Any,
    rollout: Any,
    algorithm: dict[str, Any],
    reward: Any,
    validation_prompts: Any,
    guard: Any,
    validate_every: int,
    **settings: Any,
) -> tuple[Any, ...]:
    from .. import algorithms, train
    from ..models.base import AdapterConfig
    from ..online import Rounds
    from ..validation import Validation

    settings["adapter"] = AdapterConfig(
        settings.pop("rank"), settings.pop("alpha"), settings.pop("target")
    )
    chosen = {key: value for key, value in algorithm.items() if key != "algorithm"}
    fields = {field.name for field in dataclasses.fields(Rounds)}
    rounds = Rounds(**{key: chosen.pop(key) for key in fields & chosen.keys()})
    objective = _ALGORITHMS[algorithm["algorithm"]]
    validation = None
    if validation_prompts is not None and validate_every:
        if reward is None:
            raise InputError(
                "reward",
                "there are validation prompts and nothing to measure on them",
                "Connect the reward that scored the rollout.",
            )
        validation = Validation(validation_prompts, reward, guard, validate_every)
    result = train.train(
        host,
        model,
        rollout,
        getattr(algorithms, objective)(**chosen),
        train.TrainConfig(**settings),
        rounds,
        reward,
        validation,
    )
    return result, result.tensors(), result.loss_map(), str(result.path)


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
    from .. import evaluate

    found = evaluate.evaluate(
        host,
        model,
        [one for one in (aligned, aligned_2, aligned_3) if one is not None],
        prompts,
        reward,
        evaluate.EvaluationConfig(**settings),
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
    "GDRO_TrainLoRA": Stage(
        _train_lora,
        "GDRO Train LoRA",
        "Trains a LoRA that makes images with a high reward more likely. Cancel whenever you like: "
        "queue the same graph again and it goes on from there.",
        (
            MODEL,
            Input("rollout", "GDRO_ROLLOUT", "Scored groups, from GDRO Score Rollout."),
            Input(
                "algorithm",
                "DYNAMIC",
                "How it learns. gdro: offline, from the groups that are there. dgpo: online, in rounds "
                "of new groups. dpo: only the best against the worst of each group.",
                choices=CHOICES,
            ),
            Input("steps", "INT", "Optimiser steps.", default=200, minimum=1, maximum=100000),
            Input(
                "groups_per_step",
                "INT",
                "Prompts in one step. More is steadier and slower.",
                default=8,
                minimum=1,
                maximum=1024,
            ),
            Input(
                "learning_rate",
                "FLOAT",
                "Peak of the schedule. Too high: pictures break. The paper: 3e-4 for FLUX; the bundled "
                "model takes more.",
                default=3e-4,
                minimum=1e-7,
                maximum=1.0,
                step=1e-5,
            ),
            Input(
                "rank",
                "INT",
                "Size of the LoRA: room to learn against size of the file.",
                default=32,
                minimum=1,
                maximum=512,
            ),
            Input(
                "alpha",
                "FLOAT",
                "The LoRA works at alpha / rank.",
                default=32.0,
                minimum=0.1,
                maximum=2048.0,
                step=1.0,
            ),
            Input(
                "target",
                "COMBO",
                "Layers that are changed. Small models need the MLP layers too.",
                default="attention",
                options=("attention", "attention+mlp"),
            ),
            Input(
                "ema_decay",
                "FLOAT",
                "Averages the weights over the last steps, about 1 / (1 - decay) of them; 0 does not.",
                default=0.9,
                minimum=0.0,
                maximum=0.9999,
                step=0.01,
                advanced=True,
            ),
            Input(
                "sigma_sampler",
                "COMBO",
                "How noise levels are drawn: evenly (the paper), or mostly from the middle.",
                default="uniform",
                options=("uniform", "logit-normal"),
                advanced=True,
            ),
            Input(
                "sigma_min",
                "FLOAT",
                "Lowest noise level to train at. Composition is decided at high ones.",
                default=0.0,
                minimum=0.0,
                maximum=1.0,
                step=0.01,
                advanced=True,
            ),
            Input(
                "sigma_max",
                "FLOAT",
                "Highest noise level to train at.",
                default=1.0,
                minimum=0.0,
                maximum=1.0,
                step=0.01,
                advanced=True,
            ),
            Input(
                "seed",
                "INT",
                "Of everything random in the training; the same seed gives the same LoRA.",
                default=0,
                minimum=0,
                maximum=2**53,
            ),
            Input(
                "preview_every",
                "INT",
                "Steps between pictures of what it learned so far; 0 makes none.",
                default=50,
                minimum=0,
                maximum=100000,
                advanced=True,
            ),
            Input(
                "reward",
                "GDRO_REWARD",
                "What scored the rollout. Needed for rounds, and for validation.",
                optional=True,
            ),
            Input(
                "validation_prompts",
                "GDRO_PROMPTS",
                "Other prompts on which the model is measured while it trains; the best weights are "
                "kept.",
                optional=True,
            ),
            Input(
                "guard",
                "GDRO_REWARD",
                "A second reward that sees pictures rot. Training stops when the first one rises at "
                "its cost.",
                optional=True,
            ),
            Input(
                "checkpoint_every",
                "INT",
                "Steps between checkpoints; 0 saves only when you cancel and at the end.",
                default=50,
                minimum=0,
                maximum=100000,
                advanced=True,
            ),
            Input(
                "validate_every",
                "INT",
                "Steps between measurements on the validation prompts; 0 makes none.",
                default=50,
                minimum=0,
                maximum=100000,
                advanced=True,
            ),
            Input(
                "gradient_checkpointing",
                "BOOLEAN",
                "Compute parts again in the backward pass: much less memory, about a third slower. The "
                "LoRA is the same.",
                default=False,
                optional=True,
                advanced=True,
            ),
            Input(
                "images_at_once",
                "INT",
                "Images in one pass; 0 takes what is estimated to fit. Less than group_size is slower by "
                "a pass. The LoRA is the same.",
                default=0,
                optional=True,
                minimum=0,
                maximum=4096,
                advanced=True,
            ),
        ),
        (
            Output("aligned", "GDRO_ALIGNED", "The trained LoRA, for GDRO nodes."),
            Output("lora", "LORA_MODEL", "The same for ComfyUI's own LoRA nodes."),
            Output("loss", "LOSS_MAP", "The loss, for ComfyUI's Plot Loss Graph."),
            Output("path", "STRING", "The LoRA's file."),
        ),
        output_node=True,
        aliases=("align", "rlhf", "dpo", "preference", "finetune"),
    ),
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
