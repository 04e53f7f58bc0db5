"""Train a LoRA on scored groups: check the settings, run the loop, write the file."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.aligned import AlignedLoRA
from ..data.damage import DamagedFile
from ..data.disk import make_folder
from ..data.files import digest, read_lines, read_record, read_tensors, write_record, write_tensors
from ..data.identity import difference, same_base
from ..data.lora_weights import LoRAWeights
from ..data.run_lock import writing
from ..data.runs import TRAININGS
from ..data.trainings import Training
from ..errors import InputError
from ..lora import files as lora_files
from ..lora import metadata
from ..lora.warm_start import WarmStart
from ..rollouts.full_check import mend_for_training
from . import group_sampling, memory, online
from .commands import CommandWatcher
from .config import TrainConfig
from .objectives import GDRO, Objective
from .online import Rounds
from .previews import Previews
from .reference_cache import ReferenceCache
from .step import Guidance
from .trainer import Trainer, Watcher
from .validation import Monitor, Validation

if TYPE_CHECKING:
    import numpy as np

    from ..data.rollout import Rollout
    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward

log = logging.getLogger(__name__)

_NOT_IN_RECORD = (
    "checkpoint_every", "preview_every", "images_at_once", "gradient_checkpointing", "torch_compile",
)  # fmt: skip
"""Settings that do not change the LoRA."""

_BARREN_ROUNDS = 3
"""Rounds in a row whose groups teach nothing, after which training ends: one alone may be chance."""


def train(
    host: Host,
    model: FlowModel,
    rollout: Rollout,
    objective: Objective | None = None,
    config: TrainConfig | None = None,
    rounds: Rounds | None = None,
    reward: Reward | None = None,
    validation: Validation | None = None,
    start_from: AlignedLoRA | None = None,
) -> AlignedLoRA:
    """Train on a scored rollout. A finished training returns at once, an interrupted one goes on.

    Args:
        objective: the algorithm; GDRO with its defaults if None.
        config: settings; the defaults if None.
        rounds: new groups sampled with the aligned model on the way; needs ``reward`` to score them.
        reward: that scored the rollout.
        validation: measures on prompts that are not trained on, keeps the best weights, and may stop early.
        start_from: a LoRA of this model to go on from, instead of one that changes nothing.

    Raises:
        InputError: the settings do not fit the groups, no group can teach anything, or another process
            writes into the run.
    """
    objective, config = objective or GDRO(), config or TrainConfig()
    rounds = rounds or Rounds()
    model = model.as_recorded(rollout.base_identity)
    _check_model(model, rollout)
    check_settings(objective, config, rounds, rollout.images_per_prompt)
    rounds.check(config.steps, reward, objective)
    if validation is not None:
        validation.check(model)
    scores = rollout.scores()
    group_sampling.teaching_groups(scores, objective.group_size)
    record = _record(rollout, scores, objective, config, rounds, reward, validation)
    start = None
    if start_from is not None:
        start = WarmStart(start_from, model, config.adapter)
        record["start"] = start.record()
    name = digest(record, 10)
    training = Training(rollout.run.folder / TRAININGS / name)
    path = host.lora_dir / "gdro" / f"{rollout.run.name}_{name}.safetensors"
    damaged: list[int] = []
    read_lines(training.history, damaged)
    if training.done.is_file() and not training.history.is_file():
        log.warning(
            "%s is gone: this training has no curve; nothing else is lost", training.history
        )
    if damaged:
        log.warning(
            "%s: %d lines are damaged, the first is line %d; the curve lacks these steps",
            training.history, len(damaged), damaged[0],
        )  # fmt: skip
    host.emit("training", {"run": training.run_name, "training": training.name})
    if training.done.is_file() and path.is_file() and not _damaged(training, path):
        log.info("this training is finished already: %s", path)
        steps = _finished_steps(training, config)
        return AlignedLoRA(path, training.folder, steps, model.identity)
    guidance = _reference_guidance(model, rollout, objective)
    with writing(rollout.run.folder):
        if training.done.is_file():
            log.warning("%s is gone or damaged: it is written again from the checkpoint", path)
        mend_for_training(host, model, rollout)
        make_folder(training.folder)
        make_folder(path.parent)
        write_record(training.config, record)

        def write(file: Path, weights: Mapping[str, Tensor]) -> None:
            lora = LoRAWeights(weights, config.adapter.rank, config.adapter.alpha)
            header = metadata.header(file.stem, model, record)
            write_tensors(file, lora_files.to_file_keys(lora, model.key_prefix), header)

        def write_step(trainer: Trainer) -> None:
            file = path.with_name(f"{path.stem}_step{trainer.step:05d}.safetensors")
            write(file, trainer.result())

        watchers: list[Watcher] = [Previews(rollout, config.preview_every)]
        monitor = None
        if validation is not None:
            texts = {prompt.text for prompt in rollout.prompts}
            shared = sum(prompt.text in texts for prompt in validation.prompts)
            if shared:
                log.warning(
                    "%d of %d validation prompts are also trained on: what is measured on them flatters",
                    shared, len(validation.prompts),
                )  # fmt: skip
            monitor = Monitor(host, model, validation, rollout.run.settings, training, shared)
            watchers.append(monitor)
        watchers.append(CommandWatcher(training.folder, write_step))
        host.free_memory()
        group_size = objective.group_size or rollout.images_per_prompt
        planned = memory.plan(host, model, rollout, group_size, config)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            model.active(),
            model.adapters(config.adapter, config.seed) as parameters,
            model.checkpointed(planned.gradient_checkpointing),
            model.compiled(config.torch_compile),
        ):
            if start is not None:
                start.copy_to(parameters)
            cache = None
            if config.reference_draws:
                cache = ReferenceCache(
                    len(rollout.prompts), config.reference_draws, rollout.images_per_prompt
                )
            trainer = Trainer(
                host, model, objective, planned, parameters, training, tuple(watchers), cache,
                guidance,
            )  # fmt: skip
            _run(trainer, rollout, scores, rounds, reward)
            weights = trainer.result()
            write(path, weights if monitor is None else monitor.best(weights))
        write_record(training.done, {"lora": path.name, "steps": trainer.step})
        return AlignedLoRA(path, training.folder, trainer.step, model.identity)


def _run(
    trainer: Trainer, rollout: Rollout, scores: np.ndarray, rounds: Rounds, reward: Reward | None
) -> None:
    """Train to the last step, round by round."""
    host, model = trainer.host, trainer.model
    trainer.finish()
    barren = 0
    for number, end in enumerate(rounds.ends(trainer.config.steps)):
        if trainer.stopped or trainer.step >= end:
            continue
        data = (
            online.next_round(host, trainer, rollout, reward, rounds, number)
            if number and reward is not None
            else online.first_round(model, rollout, scores, trainer.objective.group_size)
        )
        barren = barren + 1 if data is None else 0
        if data is not None:
            trainer.run(data, end)
        elif barren == _BARREN_ROUNDS or end == trainer.config.steps:
            log.warning("training ends at step %d: new groups teach nothing", trainer.step)
            break


def _reference_guidance(
    model: FlowModel, rollout: Rollout, objective: Objective
) -> Guidance | None:
    """Encode what the reference's guidance leads away from: the groups' negative prompt, or an empty one.

    Raises:
        InputError: the model has no classifier-free guidance.
    """
    if objective.reference_guidance <= 1:
        return None
    sampler = rollout.run.settings.sampler
    with model.active():
        negative = model.encode_negative("" if sampler is None else sampler.negative_prompt)
        if negative is None:
            raise InputError(
                "reference_guidance",
                f"{model.title} has no classifier-free guidance",
                "Set it to 1.",
            )
        return Guidance(objective.reference_guidance, negative.to(model.device))


def _damaged(training: Training, path: Path) -> bool:
    """Return whether a finished training's LoRA or record is damaged, and can be written again.

    Raises:
        DamagedFile: the LoRA is damaged, and there is no checkpoint to write it from.
    """
    remedy = "Put a copy of it in its place, or delete it to train again from the first step."
    try:
        read_tensors(path, remedy)
        read_record(training.done)
    except DamagedFile:
        if not training.checkpoint.is_file():
            raise
        return True
    except (OSError, ValueError):
        return training.checkpoint.is_file()
    return False


def _finished_steps(training: Training, config: TrainConfig) -> int:
    """Return the steps that a finished training took."""
    try:
        return int(read_record(training.done)["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        return config.steps


def _check_model(model: FlowModel, rollout: Rollout) -> None:
    """Raise ``InputError`` if another model made the groups."""
    if not same_base(rollout.base_identity, model.identity):
        found = difference(rollout.base_identity, model.identity)
        raise InputError(
            "model",
            f"these groups were made by another model ({found})",
            "Connect the model that the rollout used, or make a rollout with this one.",
        )


def check_settings(
    objective: Objective, config: TrainConfig, rounds: Rounds, images_per_prompt: int | None
) -> None:
    """Check what is known before there are groups.

    Args:
        images_per_prompt: of the groups; None if it is not known yet.

    Raises:
        InputError: the settings do not fit together, or not such groups.
    """
    size = objective.group_size
    if size and images_per_prompt is not None and not 2 <= size <= images_per_prompt:
        raise InputError(
            "group_size",
            f"{size} images are to train together, of {images_per_prompt}",
            f"Use 2 to {images_per_prompt}, or make more images per prompt.",
        )
    if config.steps < 1 or config.groups_per_step < 1:
        raise InputError("steps", "there is nothing to do", "Use at least 1 step of 1 group.")
    if config.ema_decay > 0 and config.ema_every > config.steps:
        raise InputError(
            "ema_every",
            f"an average that is updated every {config.ema_every} steps learns nothing in {config.steps}",
            f"Use at most {config.steps}, or set ema_decay to 0.",
        )
    sigma_min = max(config.sigma_min, objective.sigma_min)
    if not 0 <= sigma_min < config.sigma_max <= 1:
        raise InputError(
            "sigma_min", f"{sigma_min} to {config.sigma_max} is no range of noise levels",
            "Use 0 <= sigma_min < sigma_max <= 1.",
        )  # fmt: skip
    if config.reference_draws and (rounds.rounds > 1 or objective.uses_drift):
        raise InputError(
            "reference_draws",
            "errors of the reference can be kept only for groups that stay, and for losses without kl",
            "Set it to 0, or train gdro or dpo in one round.",
        )


def _record(
    rollout: Rollout,
    scores: np.ndarray,
    objective: Objective,
    config: TrainConfig,
    rounds: Rounds,
    reward: Reward | None,
    validation: Validation | None,
) -> dict[str, Any]:
    """Return everything that the LoRA depends on, JSON-able."""
    settings = dataclasses.asdict(config)
    for name in _NOT_IN_RECORD:
        del settings[name]
    if not config.reference_draws:
        # Trainings from before this setting existed have no entry for it, and must go on.
        del settings["reference_draws"]
    if config.ema_every == 1:
        del settings["ema_every"]
    record = {
        "objective": objective.record(),
        "training": settings,
        "rollout": rollout.run.settings.as_json(),
        "reward": rollout.score_file,
        "prompts": digest([prompt.text for prompt in rollout.prompts]),
        "scores": digest([[round(float(score), 6) for score in group] for group in scores]),
    }
    if rounds.rounds > 1 and reward is not None:
        record["rounds"] = dataclasses.asdict(rounds)
        record["rounds"]["reward"] = [reward.name, reward.settings]
    if validation is not None:
        record["validation"] = validation.record()
    return record
