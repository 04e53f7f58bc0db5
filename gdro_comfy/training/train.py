"""Training a LoRA on scored groups: settings, checks, and the file that comes out."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.aligned import TrainResult
from ..data.files import digest, write_atomic, write_json
from ..errors import InputError
from ..lora import files, metadata
from ..lora.warm_start import Start
from . import group_sampling, memory, online
from .commands import Wishes
from .config import TrainConfig
from .objectives import GDRO, Objective
from .online import Rounds
from .reference_cache import ReferenceBank
from .trainer import Trainer, Watcher
from .validation import Monitor, Previews, Validation

if TYPE_CHECKING:
    import numpy as np

    from ..data.rollout import Rollout
    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward

log = logging.getLogger(__name__)


def train(
    host: Host,
    model: FlowModel,
    rollout: Rollout,
    objective: Objective | None = None,
    config: TrainConfig | None = None,
    rounds: Rounds | None = None,
    reward: Reward | None = None,
    validation: Validation | None = None,
    start_from: TrainResult | None = None,
) -> TrainResult:
    """Train on a scored rollout. Finished trainings return at once, interrupted ones go on.

    Args:
        rounds: new groups from the aligned model on the way; needs the ``reward`` that scores them.
        validation: measures on prompts of its own, keeps the best weights, and may stop early.
        start_from: a LoRA of this model to go on from, instead of one that changes nothing.

    Raises:
        InputError: the settings do not fit the groups, or no group can teach anything.
    """
    objective, config = objective or GDRO(), config or TrainConfig()
    rounds = rounds or Rounds()
    _check(model, rollout, objective, config)
    rounds.check(config.steps, reward)
    if config.reference_draws and (rounds.rounds > 1 or objective.uses_drift):
        raise InputError(
            "reference_draws",
            "what is kept of the base is for the groups that are there, and for losses without kl",
            "Set it to 0, or train gdro or dpo in one round.",
        )
    if validation is not None:
        validation.check(model)
    rewards = rollout.scores()
    group_sampling.teaching_groups(rewards, objective.group_size)
    record = _record(rollout, rewards, objective, config, rounds, reward, validation)
    start = None
    if start_from is not None:
        start = Start(start_from, model, config.adapter)
        record["start"] = start.record()
    folder = rollout.run.folder / "train" / digest(record, 10)
    target = host.lora_dir / "gdro" / f"{rollout.run.name}_{digest(record, 10)}.safetensors"
    host.emit("training", {"run": rollout.run.folder.name, "training": folder.name})
    done = folder / "done.json"
    if done.is_file() and target.is_file():
        log.info("this training is finished already: %s", target)
        return TrainResult(target, folder, _steps(done, config), model.identity)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "output folder", f"{error.filename} cannot be written ({error.strerror})",
            "Make it writable, or choose another output folder.",
        ) from error  # fmt: skip
    write_json(folder / "config.json", record)

    host.free_memory()
    watchers: list[Watcher] = [Previews(rollout, config.preview_every)]
    monitor = None
    if validation is not None:
        monitor = Monitor(host, model, validation, rollout.run.settings, folder)
        watchers.append(monitor)

    alpha = config.adapter.alpha

    def write(file: Path, state: Mapping[str, Tensor]) -> None:
        tensors = files.to_file_keys(state, alpha)
        _write_lora(file, tensors, metadata.header(file.stem, model, record))

    def write_now(trainer: Trainer) -> None:
        name = f"{target.stem}_step{trainer.step:05d}.safetensors"
        write(target.with_name(name), trainer.result())

    watchers.append(Wishes(folder, write_now))
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        model.active(),
        model.adapters(config.adapter, config.seed) as parameters,
        model.checkpointed(config.gradient_checkpointing),
        model.compiled(config.torch_compile),
    ):
        group = objective.group_size or rollout.images_per_prompt
        trainable = sum(p.numel() for p in parameters.values())
        if start is not None:
            start.put_into(parameters)
        planned = memory.plan(host, model, rollout.run.settings.size, group, trainable, config)
        bank = None
        if config.reference_draws:
            places = len(rollout.prompts), config.reference_draws, rollout.images_per_prompt
            bank = ReferenceBank(*places)
        trainer = Trainer(
            host, model, objective, planned, parameters, folder, tuple(watchers), bank
        )
        _run(trainer, rollout, rounds, reward)
        state = trainer.result()
        write(target, state if monitor is None else monitor.best(state))
    write_json(done, {"lora": target.name, "steps": trainer.step})
    return TrainResult(target, folder, trainer.step, model.identity)


def _run(trainer: Trainer, rollout: Rollout, rounds: Rounds, reward: Reward | None) -> None:
    """Train to the last step, round by round."""
    host, model = trainer.host, trainer.model
    trainer.finish()
    for number, end in enumerate(rounds.ends(trainer.config.steps)):
        if trainer.stopped or trainer.step >= end:
            continue
        data = (
            online.next_round(host, trainer, rollout, reward, rounds, number)
            if number and reward is not None
            else online.first_round(model, rollout, trainer.objective.group_size)
        )
        if data is None:
            break
        trainer.run(data, end)


def _steps(done: Path, config: TrainConfig) -> int:
    try:
        return int(json.loads(done.read_text(encoding="utf-8"))["steps"])
    except (OSError, ValueError, KeyError):
        return config.steps


def _check(model: FlowModel, rollout: Rollout, objective: Objective, config: TrainConfig) -> None:
    if rollout.base_identity != model.identity:
        raise InputError(
            "model",
            "these groups were made by another model",
            "Connect the model that the rollout used, or make a rollout with this one.",
        )
    if objective.group_size and not 2 <= objective.group_size <= rollout.images_per_prompt:
        raise InputError(
            "group_size",
            f"{objective.group_size} images are to train together, of {rollout.images_per_prompt}",
            f"Use 2 to {rollout.images_per_prompt}, or make more images per prompt.",
        )
    if config.steps < 1 or config.groups_per_step < 1:
        raise InputError("steps", "there is nothing to do", "Use at least 1 step of 1 group.")
    low = max(config.sigma_min, objective.sigma_min)
    if not 0 <= low < config.sigma_max <= 1:
        raise InputError(
            "sigma_min", f"{low} to {config.sigma_max} is no range of noise levels",
            "Use 0 <= sigma_min < sigma_max <= 1.",
        )  # fmt: skip


def _record(
    rollout: Rollout,
    rewards: np.ndarray,
    objective: Objective,
    config: TrainConfig,
    rounds: Rounds,
    reward: Reward | None,
    validation: Validation | None,
) -> dict[str, Any]:
    """All that the LoRA depends on, JSON-able."""
    settings = dataclasses.asdict(config)
    how = (
        "checkpoint_every", "preview_every", "images_at_once", "gradient_checkpointing",
        "torch_compile",
    )  # fmt: skip
    # Where it is off it is left out, so that trainings from before there was one go on.
    for name in how if config.reference_draws else (*how, "reference_draws"):
        del settings[name]
    record = {
        "objective": {"name": type(objective).__name__, **dataclasses.asdict(objective)},  # type: ignore[call-overload]
        "training": settings,
        "rollout": rollout.run.settings.as_json(),
        "reward": rollout.score_file,
        "prompts": digest([prompt.text for prompt in rollout.prompts]),
        "scores": digest([[round(float(r), 6) for r in row] for row in rewards]),
    }
    if rounds.rounds > 1 and reward is not None:
        record["rounds"] = dataclasses.asdict(rounds)
        record["rounds"]["reward"] = [reward.name, reward.settings]
    if validation is not None:
        record["validation"] = validation.record()
    return record


def _write_lora(target: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    from safetensors.torch import save

    data = save(tensors, header)
    write_atomic(target, lambda file: file.write(data))
