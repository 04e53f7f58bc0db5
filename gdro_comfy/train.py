"""Training a LoRA on scored groups: one loop for every objective.

One step takes a batch of groups, predicts their velocities with the adapter and, without gradients,
without it, and steps on the objective's loss. Batches depend on (seed, step) alone, so a training that
was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from . import checkpoint, flow, groups, lora, lora_header, memory, microbatch
from .algorithms import GDRO, Objective
from .batches import Batch, GroupData
from .errors import InputError
from .models.base import AdapterConfig
from .store import append_lines, digest, read_lines, write_atomic, write_json

if TYPE_CHECKING:
    from .host import Host
    from .models.base import FlowModel
    from .rollout import Rollout
    from .store import RunSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainConfig:
    """How a LoRA is trained.

    Args:
        steps: optimiser steps.
        groups_per_step: prompts in one step.
        learning_rate: peak of the cosine schedule, after ``warmup_steps``.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights that become the LoRA; 0 keeps the last weights.
        adapter: rank, alpha and place of the LoRA.
        sigma_sampler: how noise levels are drawn, "uniform" or "logit-normal".
        sigma_min, sigma_max: range of noise levels.
        seed: of everything random in training.
        checkpoint_every, preview_every: in steps; 0 is never (a cancelled run still saves one).
        images_at_once: images in one pass; 0 is all of a step, or what is estimated to fit. Less
            than a group costs one forward pass more. Does not change the result.
        gradient_checkpointing: keep only what enters each block and compute the rest again in the
            backward pass: less memory, one forward pass more. Does not change the result.
    """

    steps: int = 200
    groups_per_step: int = 8
    learning_rate: float = 3e-4
    warmup_steps: int = 10
    gradient_clip: float = 1.0
    weight_decay: float = 0.0
    ema_decay: float = 0.9
    adapter: AdapterConfig = AdapterConfig()
    sigma_sampler: str = "uniform"
    sigma_min: float = 0.0
    sigma_max: float = 1.0
    seed: int = 0
    checkpoint_every: int = 50
    preview_every: int = 50
    images_at_once: int = 0
    gradient_checkpointing: bool = False

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then a cosine down to a fiftieth; ``step`` counts from 0."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


@dataclass(frozen=True)
class TrainResult:
    """A finished LoRA (``GDRO_ALIGNED``): its file, the folder of its training, and its model."""

    path: Path
    folder: Path
    steps: int
    model: dict[str, Any]

    def history(self) -> list[dict[str, Any]]:
        return read_lines(self.folder / "history.jsonl")

    def tensors(self) -> dict[str, Tensor]:
        """The LoRA as ComfyUI's ``LORA_MODEL``."""
        from .store import read_tensors

        return read_tensors(self.path)

    def loss_map(self) -> dict[str, list[float]]:
        """The losses as ComfyUI's ``LOSS_MAP``."""
        return {"loss": [row["loss"] for row in self.history()]}


def train(
    host: Host,
    model: FlowModel,
    rollout: Rollout,
    objective: Objective | None = None,
    config: TrainConfig | None = None,
) -> TrainResult:
    """Train on a scored rollout. Finished trainings return at once, interrupted ones go on.

    Raises:
        InputError: the settings do not fit the groups, or no group can teach anything.
    """
    objective, config = objective or GDRO(), config or TrainConfig()
    _check(model, rollout, objective, config)
    rewards = rollout.scores()
    places = groups.teaching_groups(rewards)
    record = _record(rollout, rewards, objective, config)
    folder = rollout.run.folder / "train" / digest(record, 10)
    target = host.lora_dir / "gdro" / f"{rollout.run.name}_{digest(record, 10)}.safetensors"
    result = TrainResult(target, folder, config.steps, model.identity)
    if (folder / "done.json").is_file() and target.is_file():
        log.info("this training is finished already: %s", target)
        return result
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            "output folder", f"{error.filename} cannot be written ({error.strerror})",
            "Make it writable, or choose another output folder.",
        ) from error  # fmt: skip
    write_json(folder / "config.json", record)
    log.info(
        "training on %d groups; %d of equal rewards left out",
        len(places),
        len(rewards) - len(places),
    )

    host.free_memory()
    with torch.inference_mode(False), torch.enable_grad(), model.active():
        data = GroupData.read(rollout, places, rewards)
        guided = model.with_guidance(data.conditioning, rollout.run.settings.guidance)
        data = dataclasses.replace(data, conditioning=guided)
        checkpointed = model.checkpointed(config.gradient_checkpointing)
        with model.adapters(config.adapter, config.seed) as parameters, checkpointed:
            size, trainable = rollout.run.settings.size, sum(p.numel() for p in parameters.values())
            config = memory.plan(host, model, size, objective.group_size, trainable, config)
            state = _Trainer(
                host, model, objective, config, data, parameters, folder, rollout.run.settings
            ).run()
    tensors = lora.to_file_keys(state, config.adapter.alpha)
    _write_lora(target, tensors, lora_header.header(target.stem, model, record))
    write_json(folder / "done.json", {"lora": target.name, "steps": config.steps})
    return result


def _check(model: FlowModel, rollout: Rollout, objective: Objective, config: TrainConfig) -> None:
    if rollout.run.settings.model != model.identity:
        raise InputError(
            "model",
            "these groups were made by another model",
            "Connect the model that the rollout used, or make a rollout with this one.",
        )
    if not 2 <= objective.group_size <= rollout.images_per_prompt:
        raise InputError(
            "group_size",
            f"{objective.group_size} images are to train together, of {rollout.images_per_prompt}",
            f"Use 2 to {rollout.images_per_prompt}, or make more images per prompt.",
        )
    if config.steps < 1 or config.groups_per_step < 1:
        raise InputError("steps", "there is nothing to do", "Use at least 1 step of 1 group.")
    if not 0 <= config.sigma_min < config.sigma_max <= 1:
        raise InputError(
            "sigma_min", f"{config.sigma_min} to {config.sigma_max} is no range of noise levels",
            "Use 0 <= sigma_min < sigma_max <= 1.",
        )  # fmt: skip


def _record(rollout: Rollout, rewards, objective: Objective, config: TrainConfig) -> dict[str, Any]:
    """All that the LoRA depends on, JSON-able."""
    settings = dataclasses.asdict(config)
    how = ("checkpoint_every", "preview_every", "images_at_once", "gradient_checkpointing")
    for name in how:
        del settings[name]
    return {
        "objective": {"name": type(objective).__name__, **dataclasses.asdict(objective)},  # type: ignore[call-overload]
        "training": settings,
        "rollout": rollout.run.settings.as_json(),
        "reward": rollout.score_file,
        "prompts": digest([prompt.text for prompt in rollout.prompts]),
        "scores": digest([[round(float(r), 6) for r in row] for row in rewards]),
    }


def _write_lora(target: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    from safetensors.torch import save

    data = save(tensors, header)
    write_atomic(target, lambda file: file.write(data))


class _Trainer:
    """The loop's state: parameters, optimiser, averaged weights, step."""

    def __init__(
        self,
        host: Host,
        model: FlowModel,
        objective: Objective,
        config: TrainConfig,
        data: GroupData,
        parameters: dict[str, torch.nn.Parameter],
        folder: Path,
        settings: RunSettings,
    ) -> None:
        self.settings = settings  # how previews are sampled
        self.host, self.model, self.objective, self.config = host, model, objective, config
        self.data, self.parameters, self.folder = data, parameters, folder
        self.optimizer = torch.optim.AdamW(
            parameters.values(), lr=0.0, weight_decay=config.weight_decay, foreach=False
        )
        self.ema = {name: p.detach().clone() for name, p in parameters.items()}
        self.step = 0
        everything = config.groups_per_step * objective.group_size
        self.images_at_once = min(config.images_at_once or everything, everything)
        self.path = folder / "checkpoint.safetensors"

    def run(self) -> dict[str, Tensor]:
        """Train to the last step and return the weights that become the LoRA."""
        config, host = self.config, self.host
        self.step = checkpoint.restore(self.path, self.parameters, self.ema, self.optimizer)
        kept = [
            row for row in read_lines(self.folder / "history.jsonl") if row["step"] <= self.step
        ]
        text = "".join(_line(row) for row in kept)
        write_atomic(self.folder / "history.jsonl", lambda file: file.write(text.encode()))
        rows: list[dict[str, Any]] = []
        bad = 0
        try:
            while self.step < config.steps:
                host.check_cancelled()
                row = self._train_step()
                bad = 0 if row["finite"] else bad + 1
                if bad == 3:
                    raise InputError(
                        "learning_rate", "the loss was not a finite number three times in a row",
                        "Use a lower learning rate or a lower beta. The last good state is kept.",
                    )  # fmt: skip
                rows.append(row)
                host.emit("train_step", {"folder": self.folder.name, **row})
                preview = self._preview() if self._due(config.preview_every) else None
                host.progress(self.step, config.steps, "training", preview)
                if self._due(config.checkpoint_every) or self.step == config.steps:
                    self._save(rows)
        except BaseException:
            # Cancelled, interrupted or failed: what is learned so far is not lost.
            self._save(rows)
            raise
        return self.ema if config.ema_decay > 0 else dict(self.parameters)

    def _due(self, every: int) -> bool:
        return every > 0 and self.step % every == 0

    def _save(self, rows: list[dict[str, Any]]) -> None:
        append_lines(self.folder / "history.jsonl", rows)
        rows.clear()
        checkpoint.save(self.path, self.step, self.parameters, self.ema, self.optimizer)

    def _measure(self, batch: Batch) -> microbatch.Measured:
        """Velocity errors of the adapter and of the reference, each ``[B * k]``."""
        device, k = self.model.device, batch.x0.shape[1]
        cond = self.data.conditioning.select(batch.groups.repeat_interleave(k)).to(device)
        x0, noise = (t.flatten(0, 1).to(device) for t in (batch.x0, batch.noise))
        sigma = batch.sigma.repeat_interleave(k).to(device)
        x = flow.interpolate(x0, noise, sigma)
        target = flow.target_velocity(x0, noise)

        def errors(part: slice) -> Tensor:
            if part.stop - part.start < len(x):
                self.host.check_cancelled()
            some = cond.select(range(len(x))[part])
            return flow.velocity_error(
                self.model.velocity(x[part], sigma[part], some), target[part]
            )

        def reference(part: slice) -> Tensor:
            with torch.no_grad(), self.model.reference():
                return errors(part)

        return microbatch.measure(errors, reference, len(x), self.images_at_once)

    def _train_step(self) -> dict[str, Any]:
        """One optimiser step; its row of the history."""
        started = time.perf_counter()
        config = self.config
        batch = self.data.batch(
            config.seed,
            self.step,
            config.groups_per_step,
            self.objective,
            config.sigma_sampler,
            (config.sigma_min, config.sigma_max),
        )
        while True:
            try:
                seen = self._backward(batch)
                break
            except torch.OutOfMemoryError:
                if self.images_at_once == 1:
                    raise
                self.images_at_once = max(1, self.images_at_once // 2)
                log.warning("out of memory: going on with %d images at once", self.images_at_once)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.gradient_clip)
        rate = config.learning_rate_at(self.step)
        finite = bool(norm.isfinite())
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            self._average()
        self.step += 1
        return {
            "step": self.step,
            **seen,
            "grad_norm": float(norm) if finite else None,
            "learning_rate": rate,
            "seconds": round(time.perf_counter() - started, 4),
            "finite": finite,
        }

    def _backward(self, batch: Batch) -> dict[str, float]:
        """Gradients of the mean loss over all groups, some images at a time; what was seen."""
        self.optimizer.zero_grad()
        seen: dict[str, float] = {}
        for part in batch.split(max(1, self.images_at_once // self.objective.group_size)):
            self.host.check_cancelled()
            measured = self._measure(part)
            errors, reference = (t.reshape(part.rewards.shape) for t in measured[:2])
            result = self.objective.loss(errors, reference, part.rewards.to(errors.device))
            share = len(part) / len(batch)
            measured.backward(result.loss * share)
            values = {
                "loss": result.loss,
                "group_loss": result.group_loss,
                "accuracy": result.stats.accuracy,
                "margin": result.stats.margin,
                "top_error": result.top_error,
                "error": errors.mean(),
                "reference_error": reference.mean(),
            }
            for name, value in values.items():
                seen[name] = seen.get(name, 0.0) + share * value.item()
        return seen

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        for name, parameter in self.parameters.items():
            self.ema[name].lerp_(parameter, 1 - decay)

    def _preview(self):
        """Four pictures of the first prompts with the weights so far, the same seeds every time."""
        from .rollout import contact_sheet, to_pil

        run = self.settings
        cond = self.data.conditioning.select([0, 1, 2, 3][: len(self.data.latents)]).to(
            self.model.device
        )
        latents = self.model.sample(
            cond, list(range(len(cond))), run.steps, run.guidance, run.size,
            lambda *_: self.host.check_cancelled(),
        )  # fmt: skip
        sheet = contact_sheet(to_pil(self.model.decode(latents)), 4)
        folder = self.folder / "samples"
        folder.mkdir(exist_ok=True)
        sheet.save(folder / f"step_{self.step:05d}.png")
        return sheet


def _line(row: dict[str, Any]) -> str:
    import json

    return json.dumps(row) + "\n"
