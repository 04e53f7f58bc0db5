"""Stages that train a LoRA, and that say whether it helped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..stage import Input, Output, Stage
from .shared import MODEL, SIZE, image_tensor, sampling

if TYPE_CHECKING:
    from ..host import Host


def _train_lora(
    host: Host, model: Any, rollout: Any, algorithm: dict[str, Any], **settings: Any
) -> tuple[Any, ...]:
    from .. import algorithms, train
    from ..models.base import AdapterConfig

    settings["adapter"] = AdapterConfig(
        settings.pop("rank"), settings.pop("alpha"), settings.pop("target")
    )
    objective = algorithms.GDRO(**{k: v for k, v in algorithm.items() if k != "algorithm"})
    result = train.train(host, model, rollout, objective, train.TrainConfig(**settings))
    return result, result.tensors(), result.loss_map(), str(result.path)


def _evaluate(
    host: Host, model: Any, aligned: Any, prompts: Any, reward: Any, **settings: Any
) -> tuple[Any, ...]:
    from .. import evaluate

    found = evaluate.evaluate(
        host, model, aligned, prompts, reward, evaluate.EvaluationConfig(**settings)
    )
    result = found.comparison
    return image_tensor([found.picture]), result.table(), result.gain, result.gain_error


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
                "How it learns. gdro: offline, from the groups that are there.",
                choices={
                    "gdro": (
                        Input(
                            "group_size",
                            "INT",
                            "k: images of one prompt that train together. 2 is unsteady, 6 was best in "
                            "the paper. At most the images per prompt.",
                            default=6,
                            minimum=2,
                            maximum=64,
                        ),
                        Input(
                            "beta",
                            "FLOAT",
                            "How closely the model stays with its base. Too low: the reward is fooled "
                            "and pictures rot. Too high: it stops learning early. Paper: 12 for text, "
                            "6 for composition.",
                            default=12.0,
                            minimum=0.01,
                            maximum=10000.0,
                            step=0.5,
                        ),
                        Input(
                            "temperature",
                            "FLOAT",
                            "tau, in units of reward: smaller differences hardly count. 0.5 learns too "
                            "little, 0.025 is unsteady. 0 looks at the order alone.",
                            default=0.05,
                            minimum=0.0,
                            maximum=10.0,
                            step=0.005,
                        ),
                        Input(
                            "top1_weight",
                            "FLOAT",
                            "gamma: holds the model to the best image of each group, which keeps "
                            "pictures sharp. At 0 they may rot.",
                            default=0.5,
                            minimum=0.0,
                            maximum=100.0,
                            step=0.1,
                        ),
                        Input(
                            "draw",
                            "COMBO",
                            "Which k of a prompt's images train together: any, or the best and the worst.",
                            default="random",
                            options=("random", "best and worst"),
                        ),
                    )
                },
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
                "checkpoint_every",
                "INT",
                "Steps between checkpoints; 0 saves only when you cancel and at the end.",
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
        "Base against aligned on prompts and seeds that were not trained on: mean reward with standard "
        "errors, and the pictures side by side.",
        (
            MODEL,
            Input("aligned", "GDRO_ALIGNED", "From GDRO Train LoRA."),
            Input("prompts", "GDRO_PROMPTS", "Held-out prompts: not those of the training."),
            Input("reward", "GDRO_REWARD", "What to measure."),
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
        ),
        output_node=True,
        preview="comparison",
    ),
}
