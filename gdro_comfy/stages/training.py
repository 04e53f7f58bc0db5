"""The stage that trains a LoRA."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .algorithms import CHOICES
from .base import Input, Output, Stage
from .shared import MODEL

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
    start_from: Any = None,
    **settings: Any,
) -> tuple[Any, ...]:
    from ..models.base import AdapterConfig
    from ..training import objectives
    from ..training.config import TrainConfig
    from ..training.online import Rounds
    from ..training.train import train
    from ..training.validation import Validation

    settings["adapter"] = AdapterConfig(
        settings.pop("rank"), settings.pop("alpha"), settings.pop("target")
    )
    chosen = {key: value for key, value in algorithm.items() if key != "algorithm"}
    fields = {field.name for field in dataclasses.fields(Rounds)}
    settings["reference_draws"] = chosen.pop("reference_draws", 0)
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
    result = train(
        host,
        model,
        rollout,
        getattr(objectives, objective)(**chosen),
        TrainConfig(**settings),
        rounds,
        reward,
        validation,
        start_from,
    )
    return result, result.tensors(), result.loss_map(), str(result.path)


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
                "start_from",
                "GDRO_ALIGNED",
                "Go on from this LoRA, with its rank and target; the reference stays the base. From GDRO "
                "Train LoRA or GDRO Aligned LoRA from File.",
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
            Input(
                "torch_compile",
                "BOOLEAN",
                "torch compiles the model's blocks: the first steps wait for it, the others took a quarter "
                "less on a CPU. Needs Triton (NVIDIA card) or a C++ compiler (CPU).",
                default=False,
                optional=True,
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
}
