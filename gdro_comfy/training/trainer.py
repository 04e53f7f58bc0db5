"""The training loop, the same for every objective.

One step takes a batch of groups, predicts their velocities with the adapter and, without gradients,
without it, and steps on the objective's loss. Batches depend on seed and step alone, so that an interrupted
training goes on exactly as if it had not been interrupted.
"""

from __future__ import annotations

import contextlib
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.files import append_lines, write_lines
from ..errors import InputError
from ..models.device_memory import is_out_of_memory
from ..time_left import TimeLeft
from . import checkpoint, memory
from .beta_control import BetaControl
from .loss_scale import LossScale
from .objectives import Objective, top1_error
from .step import Guidance, NoisyGroups, measure

if TYPE_CHECKING:
    from ..data.trainings import Training
    from ..host import Host
    from ..models.base import FlowModel
    from .batches import Batch, GroupData
    from .config import TrainConfig
    from .reference_cache import ReferenceCache

log = logging.getLogger(__name__)

_FUSED_ON = ("cuda", "xpu")
"""Types of devices with AdamW's fused kernel. CPUs have one, too, but it rounds otherwise than the older
trainings that go on there."""
_BAD_STEPS = 3
"""Steps in a row with a loss that is not finite, after which training gives up."""

Watcher = Callable[["Trainer", dict[str, Any]], bool]
"""Called after every step with the trainer and the step's row of the history, to which it may add.
True ends the training."""


class Trainer:
    """The state of the loop: parameters, optimiser, averaged weights, step.

    Args:
        host: for progress, events and cancellation.
        model: with the adapter attached.
        objective: that gives the loss.
        config: settings.
        parameters: of the adapter, by name.
        training: the folder for history and checkpoint; an interrupted training goes on from them.
        watchers: called after every step.
        reference_cache: of the reference's errors, if groups have fixed draws of noise.
        reference_guidance: of the reference's velocity, if the objective asks for it.
    """

    def __init__(
        self,
        host: Host,
        model: FlowModel,
        objective: Objective,
        config: TrainConfig,
        parameters: dict[str, torch.nn.Parameter],
        training: Training,
        watchers: tuple[Watcher, ...] = (),
        reference_cache: ReferenceCache | None = None,
        reference_guidance: Guidance | None = None,
    ) -> None:
        self.host, self.model, self.objective, self.config = host, model, objective, config
        self.parameters, self.training, self.watchers = parameters, training, watchers
        self.reference_cache = reference_cache
        self.reference_guidance = reference_guidance
        # On a GPU the fused kernel takes one launch for what takes thousands for the layers one by one.
        kernel: dict[str, Any] = (
            {"fused": True} if model.device.type in _FUSED_ON else {"foreach": False}
        )
        self.optimizer = torch.optim.AdamW(
            parameters.values(), lr=0.0, weight_decay=config.weight_decay, **kernel
        )
        names = ("ema", "old") if objective.uses_old else ("ema",)
        self.averages = {
            average: {name: p.detach().clone() for name, p in parameters.items()}
            for average in names
        }
        self.loss_scale = LossScale(model.dtype)
        self.images_at_once = config.images_at_once or sys.maxsize
        self.beta_control = (
            BetaControl(getattr(objective, "beta", 1.0)) if objective.auto_beta else None
        )
        self.step = checkpoint.restore(
            training.checkpoint, parameters, self.averages, self.optimizer, self._extra_state()
        )
        self._bad_steps = 0
        self._mid_step = False
        self._time_left = TimeLeft(config.steps)
        rows = training.rows()
        if rows and not training.checkpoint.is_file():
            log.warning(
                "%s is gone: training starts again from the first step", training.checkpoint
            )
        if self.step and not rows:
            log.warning("%s is gone: the curve begins at step %d", training.history, self.step + 1)
        rows = [row for row in rows if row["step"] <= self.step]
        self.stopped = any(row.get("stopped") for row in rows)
        # A step whose watchers were interrupted is watched again, and then has a second line.
        self._rows = rows[-1:] if rows and not rows[-1].get("watched", True) else []
        write_lines(training.history, rows)

    def result(self) -> Mapping[str, Tensor]:
        """Return the weights that become the LoRA."""
        return self.averages["ema"] if self.config.ema_decay > 0 else self.parameters

    def run(self, data: GroupData, until: int) -> None:
        """Train on these groups up to step ``until``."""
        config, host = self.config, self.host
        memory.reset_peak(self.model.device)
        try:
            while self.step < until and not self.stopped:
                host.check_cancelled()
                row = self._train_step(data, until)
                self._rows.append(row)
                every = config.checkpoint_every
                checkpoint_due = self.step == until or bool(every and self.step % every == 0)
                if checkpoint_due:
                    row["checkpoint"] = True
                self._watch(row)
                left = self._time_left.suffix(self.step)
                host.progress(self.step, config.steps, f"training{left}")
                if checkpoint_due or self.stopped:
                    self.save()
        except BaseException:
            # Cancelled, interrupted or failed: keep what is learned so far. Weights in the middle of an
            # update belong to no step: then the last checkpoint stands.
            if not self._mid_step:
                self.save()
            raise

    def finish(self) -> None:
        """Call the watchers for the last step, if they were interrupted."""
        if self._rows:
            self._watch(self._rows[-1])
            self.save()

    def _watch(self, row: dict[str, Any]) -> None:
        for watcher in self.watchers:
            self.stopped = watcher(self, row) or self.stopped
        row["watched"] = True
        if self.stopped:
            row["stopped"] = True
        location = {"run": self.training.run_name, "training": self.training.name}
        self.host.emit("train_step", {**location, "steps": self.config.steps, **row})

    def save(self) -> None:
        """Write the history and the checkpoint."""
        append_lines(self.training.history, self._rows)
        self._rows.clear()
        checkpoint.save(
            self.training.checkpoint,
            self.step,
            self.parameters,
            self.averages,
            self.optimizer,
            self._extra_state(),
        )

    def _extra_state(self) -> dict[str, Tensor]:
        extra = {} if self.beta_control is None else {"spread": self.beta_control.spread}
        if self.reference_cache is not None:
            extra["bank"] = self.reference_cache.errors
        if self.loss_scale.enabled:
            extra["loss_scale"] = self.loss_scale.state
        return extra

    @contextlib.contextmanager
    def weights(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Put other weights, such as their moving average, into the adapter within this context."""
        trained = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        try:
            self._load(values)
            yield
        finally:
            self._load(trained)

    @torch.no_grad()
    def _load(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def _train_step(self, data: GroupData, end: int) -> dict[str, Any]:
        """Take one optimiser step of a round up to step ``end``; return its row of the history."""
        started = time.perf_counter()
        config = self.config
        sigma_min = max(config.sigma_min, self.objective.sigma_min)
        batch = data.batch(
            config.seed,
            self.step,
            config.groups_per_step,
            self.objective,
            config.sigma_sampler,
            (sigma_min, config.sigma_max),
            config.reference_draws,
        )
        hit_rate = None if self.reference_cache is None else self.reference_cache.hit_rate(batch)
        diagnostics = self._backward_within_memory(batch, data)
        self.loss_scale.unscale(self.parameters.values())
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), config.gradient_clip)
        learning_rate = config.learning_rate_at(self.step)
        finite = bool(norm.isfinite())
        self._mid_step = True
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate
            self.optimizer.step()
            self._average(self.step + 1 == end)
        self.step += 1
        may_recover = self.loss_scale.update(finite)
        self._mid_step = False
        self._check_finite(finite or may_recover)
        return {
            "step": self.step,
            **diagnostics,
            "grad_norm": float(norm) if finite else None,
            "adapter_norm": self._adapter_norm(),
            "learning_rate": learning_rate,
            "images": batch.rewards.numel(),
            "groups": len(data.latents),
            "reference_kept": hit_rate,
            "seconds": round(time.perf_counter() - started, 4),
            "memory": memory.peak(self.model.device),
            "finite": finite,
            "watched": False,
        }

    def _check_finite(self, finite: bool) -> None:
        self._bad_steps = 0 if finite else self._bad_steps + 1
        if self._bad_steps == _BAD_STEPS:
            raise InputError(
                "learning_rate", "the loss was not a finite number three times in a row",
                "Use a lower learning rate or a lower beta. The last good state is kept.",
            )  # fmt: skip

    def _backward_within_memory(self, batch: Batch, data: GroupData) -> dict[str, float | None]:
        """Repeat the backward pass with half as many images at once for as long as memory runs out."""
        while True:
            try:
                return self._backward(batch, data)
            except Exception as error:
                if self.images_at_once == 1 or not is_out_of_memory(error):
                    raise
                self.images_at_once = min(self.images_at_once, batch.rewards.numel()) // 2
                log.warning("out of memory: going on with %d images at once", self.images_at_once)

    def _backward(self, batch: Batch, data: GroupData) -> dict[str, float | None]:
        """Accumulate the gradient of the mean loss over all groups; return its diagnostics."""
        self.optimizer.zero_grad()
        targets = self.objective.targets(batch.rewards)
        totals: dict[str, float] = {}
        errors: list[tuple[Tensor, Tensor, Tensor]] = []
        groups_at_once = max(1, self.images_at_once // batch.rewards.shape[1])
        parts = zip(batch.split(groups_at_once), targets.split(groups_at_once), strict=True)
        for part, target in parts:
            cache, control = self.reference_cache, self.beta_control
            scale = None if control is None else control.scale(part.sigma).unsqueeze(-1)
            device = self.model.device
            old_policy = self.weights(self.averages["old"]) if self.objective.uses_old else None
            with self.model.graph():
                signals, backward = measure(
                    self.model,
                    NoisyGroups.prepare(part, data.conditioning, self.model),
                    self.images_at_once,
                    reference_errors=None if cache is None else cache.get(part),
                    reference_guidance=self.reference_guidance,
                    old_policy=old_policy,
                    with_old_drift=self.objective.uses_old_drift,
                    mixtures=self.objective.mixtures,
                    beta_scale=None if scale is None else scale.to(device),
                    check_cancelled=self.host.check_cancelled,
                )
                target = target.to(signals.errors.device)
                result = self.objective.loss(signals, target)
                share = len(part) / len(batch)
                backward(result.loss * share * self.loss_scale.value)
            if cache is not None:
                cache.put(part, signals.reference)
            errors.append((part.sigma, signals.errors.detach(), signals.reference))
            values = {
                "loss": result.loss,
                "group_loss": result.group_loss,
                "accuracy": result.stats.accuracy,
                "kendall_tau": 2 * result.stats.accuracy - 1,
                "margin": result.stats.margin,
                "top_error": top1_error(signals.errors, target),
                "top_reference_error": top1_error(signals.reference, target),
                "error": signals.errors.mean(),
                "reference_error": signals.reference.mean(),
                "drift": signals.drift.mean(),
                **result.extra,
            }
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + share * value.item()
        if self.beta_control is not None:
            self.beta_control.observe(*(torch.cat(p) for p in zip(*errors, strict=True)))
        return {name: value if math.isfinite(value) else None for name, value in totals.items()}

    @torch.no_grad()
    def _adapter_norm(self) -> float:
        squares = sum(p.float().pow(2).sum() for p in self.parameters.values())
        return float(torch.as_tensor(squares).sqrt())

    @torch.no_grad()
    def _average(self, round_ends: bool) -> None:
        """Move the averaged weights towards those in training; ``step`` counts this one not yet."""
        objective, done = self.objective, self.step + 1
        by_round = objective.old_by_round
        decays = {
            "ema": min(self.config.ema_decay, (1 + self.step) / (10 + self.step)),
            "old": objective.old_decay(done if by_round else self.step),
        }
        due = {"ema": done % self.config.ema_every == 0, "old": round_ends or not by_round}
        for average, weights in self.averages.items():
            if due[average]:
                for name, parameter in self.parameters.items():
                    weights[name].lerp_(parameter, 1 - decays[average])
