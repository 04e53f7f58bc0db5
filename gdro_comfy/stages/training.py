"""The stage that trains a LoRA."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .algorithms import CHOICES
from .base import Input, Output, Stage
from .before_work import Planned, check_judges, check_new_images, images_per_prompt, prompts_of
from .inputs import WIDGETS
from .purposes import folded, for_canvas
from .shared import MODEL

if TYPE_CHECKING:
    from ..host import Host
    from ..training.config import TrainConfig
    from ..training.objectives import Objective
    from ..training.online import Rounds


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
    from ..training.train import train
    from ..training.validation import Validation

    objective, config, rounds = _configured(algorithm, settings)
    validation = None
    if validation_prompts is not None and validate_every:
        _check_validation(reward)
        validation = Validation(validation_prompts, reward, guard, validate_every)
    result = train(
        host, model, rollout, objective, config, rounds, reward, validation, start_from
    )  # fmt: skip
    return result, result.tensors(), result.loss_map(), str(result.path)


def _configured(
    algorithm: dict[str, Any], settings: dict[str, Any]
) -> tuple[Objective, TrainConfig, Rounds]:
    """Return the algorithm, the training's other settings, and its rounds, from the stage's inputs."""
    from ..models.base import AdapterConfig
    from ..training import awm, nft, objectives
    from ..training.config import TrainConfig
    from ..training.online import Rounds

    settings["adapter"] = AdapterConfig(
        settings.pop("rank"), settings.pop("alpha"), settings.pop("target")
    )
    parameters = {key: value for key, value in algorithm.items() if key != "algorithm"}
    settings["reference_draws"] = parameters.pop("reference_draws", 0)
    settings["ema_every"] = parameters.pop("ema_every", 1)
    fields = {field.name for field in dataclasses.fields(Rounds)}
    rounds = Rounds(**{key: parameters.pop(key) for key in fields & parameters.keys()})
    objective = {
        "gdro": objectives.GDRO,
        "dgpo": objectives.DGPO,
        "dpo": objectives.DPO,
        "nft": nft.NFT,
        "awm": awm.AWM,
    }[algorithm["algorithm"]]
    return objective(**parameters), TrainConfig(**settings), rounds


def _check_validation(reward: Any) -> None:
    if reward is None:
        raise InputError(
            "reward",
            "there are validation prompts, but no reward to measure with",
            "Connect the reward that scored the rollout.",
        )


def _check_training(node: Planned) -> None:
    """Refuse settings that do not fit together, or not the groups that the linked nodes will make."""
    from ..training.train import check_settings

    if not node.known():
        return
    values = node.values
    reward = values["reward"]
    named = {item.name: values[item.name] for item in node.stage.inputs if item.type in WIDGETS}
    validate_every = named.pop("validate_every")
    objective, config, rounds = _configured(named.pop("algorithm"), named)
    check_settings(objective, config, rounds, images_per_prompt(node))
    rounds.check(config.steps, reward, objective)
    if rounds.rounds > 1:
        check_new_images(node, "reward")
    if values["validation_prompts"] is not None and validate_every:
        _check_validation(reward)
        check_judges(node, prompts_of(node, "validation_prompts"), "reward", "guard")


TRAIN_LORA = Stage(
    run=_train_lora,
    check=_check_training,
    display_name="GDRO Train LoRA",
    category="training",
    description=(
        "Trains a LoRA that makes images with a high reward more likely. You can cancel at any "
        "time: queue the same graph again, and the training resumes."
    ),
    inputs=(
        MODEL,
        Input("rollout", "GDRO_ROLLOUT", "Scored groups, from GDRO Score Rollout."),
        Input(
            "algorithm",
            "DYNAMICCOMBO",
            "How to learn. gdro: offline, from the existing groups. dgpo: online, in rounds of "
            "new groups. dpo: only from the best and the worst of each group. nft, awm: like dgpo, about "
            "the weights that made each round's groups.",
            choices=folded(CHOICES),
            canvas={"gdro_purposes": for_canvas(CHOICES)},
            advanced=True,
        ),
        Input("steps", "INT", "Optimiser steps.", default=200, min=1, max=100000),
        Input(
            "groups_per_step",
            "INT",
            "Prompts per step. More is steadier and slower.",
            default=8,
            min=1,
            max=1024,
            advanced=True,
        ),
        Input(
            "learning_rate",
            "FLOAT",
            "Peak learning rate. Too high: pictures break. The paper: 3e-4 for FLUX; the bundled "
            "model takes more.",
            default=3e-4,
            min=1e-7,
            max=1.0,
            step=1e-5,
            advanced=True,
        ),
        Input(
            "rank",
            "INT",
            "Size of the LoRA: a higher rank can learn more, but makes a larger file.",
            default=32,
            min=1,
            max=512,
        ),
        Input(
            "alpha",
            "FLOAT",
            "The LoRA is scaled by alpha / rank.",
            default=32.0,
            min=0.1,
            max=2048.0,
            step=1.0,
            advanced=True,
        ),
        Input(
            "target",
            "COMBO",
            "Layers to train. Small models need the MLP layers too.",
            default="attention",
            options=("attention", "attention+mlp"),
            advanced=True,
        ),
        Input(
            "ema_decay",
            "FLOAT",
            "Averages the weights over about the last 1 / (1 - decay) steps; 0 turns it off.",
            default=0.9,
            min=0.0,
            max=0.9999,
            step=0.01,
            advanced=True,
        ),
        Input(
            "sigma_sampler",
            "COMBO",
            "How noise levels are drawn: uniformly (the paper), or mostly from the middle.",
            default="uniform",
            options=("uniform", "logit-normal"),
            advanced=True,
        ),
        Input(
            "sigma_min",
            "FLOAT",
            "Lowest noise level to train at. Composition is decided at high levels.",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
        ),
        Input(
            "sigma_max",
            "FLOAT",
            "Highest noise level to train at.",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            advanced=True,
        ),
        Input(
            "seed",
            "INT",
            "Seed for everything random in the training; the same seed gives the same LoRA.",
            default=0,
            min=0,
            max=2**53,
        ),
        Input(
            "preview_every",
            "INT",
            "Steps between preview pictures; 0 makes none.",
            default=50,
            min=0,
            max=100000,
            advanced=True,
        ),
        Input(
            "reward",
            "GDRO_REWARD",
            "The reward that scored the rollout. Needed for rounds and for validation.",
            optional=True,
        ),
        Input(
            "validation_prompts",
            "GDRO_PROMPTS",
            "Other prompts on which the model is measured during training; the best weights are "
            "kept.",
            optional=True,
        ),
        Input(
            "guard",
            "GDRO_REWARD",
            "A second reward that notices when pictures degrade. Training stops if the first one "
            "rises at its expense.",
            optional=True,
        ),
        Input(
            "start_from",
            "GDRO_ALIGNED",
            "Continue from this LoRA, with its rank and target; the reference stays the base. "
            "From GDRO Train LoRA or GDRO Aligned LoRA from File.",
            optional=True,
        ),
        Input(
            "checkpoint_every",
            "INT",
            "Steps between checkpoints; 0 saves only on cancel and at the end.",
            default=50,
            min=0,
            max=100000,
            advanced=True,
        ),
        Input(
            "validate_every",
            "INT",
            "Steps between measurements on the validation prompts; 0 makes none.",
            default=50,
            min=0,
            max=100000,
            advanced=True,
        ),
        Input(
            "gradient_checkpointing",
            "BOOLEAN",
            "Recompute parts in the backward pass: much less memory, about a third slower. The "
            "LoRA is the same.",
            default=False,
            optional=True,
            advanced=True,
        ),
        Input(
            "images_at_once",
            "INT",
            "Images per pass; 0 uses the number that is estimated to fit. Less than group_size "
            "costs an extra pass. The LoRA is the same.",
            default=0,
            optional=True,
            min=0,
            max=4096,
            advanced=True,
        ),
        Input(
            "torch_compile",
            "BOOLEAN",
            "Compiles the model's blocks: the first steps wait for it, later ones took a quarter "
            "less time on a CPU. Needs Triton (NVIDIA card) or a C++ compiler (CPU).",
            default=False,
            optional=True,
            advanced=True,
        ),
    ),
    outputs=(
        Output("aligned", "GDRO_ALIGNED", "The trained LoRA, for GDRO nodes."),
        Output("lora", "LORA_MODEL", "The same LoRA, for ComfyUI's own LoRA nodes."),
        Output("loss", "LOSS_MAP", "The loss, for ComfyUI's Plot Loss Graph."),
        Output("path", "STRING", "Path of the LoRA file."),
    ),
    is_output_node=True,
    search_aliases=("align", "rlhf", "dpo", "preference", "finetune"),
)
