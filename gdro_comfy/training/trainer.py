"""The training loop, one for every objective.

One step takes a batch of groups, predicts their velocities with the adapter and, without gradients,
without it, and steps on the objective's loss. Batches depend on (seed, step) alone, so a training that
was stopped goes on exactly as if it had not been.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data.files import append_lines, read_lines, write_atomic
from ..errors import InputError
from ..models import flow
from ..time_left import Pace
from . import checkpoint, memory, microbatch
from .beta_control import BetaControl
from .objectives import Objective, Signals, old_policy_decay, top1_error

if TYPE_CHECKING:
    from ..host import Host
    from ..models.base import FlowModel
    from .batches import Batch, GroupData
    from .config import TrainConfig
    from .reference_cache import ReferenceBank

log = logging.getLogger(__name__)

Watcher = Callable[["Trainer", dict[str, Any]], bool]
"""Called after every step with the trainer and the step's row of the history, to which it may add;
True ends the training here."""


class Trainer:
    """The loop's state: parameters, optimiser, averaged weights, step.

    Args:
        parameters: of the attached adapter, by name.
        folder: for the history and the checkpoint.
        watchers: called after every step.
        bank: of the reference's errors, if the groups have fixed draws.
    """

    def __init__(
        self,
        host: Host,
        model: FlowModel,
        objective: Objective,
        config: TrainConfig,
        parameters: dict[str, torch.nn.Parameter],
        folder: Path,
        watchers: tuple[Watcher, ...] = (),
        bank: ReferenceBank | None = None,
    ) -> None:
        self.bank = bank
        self.host, self.model, self.objective, self.config = host, model, objective, config
        self.parameters, self.folder, self.watchers = parameters, folder, watchers
        self.optimizer = torch.optim.AdamW(
            parameters.values(), lr=0.0, weight_decay=config.weight_decay, foreach=False
        )
        names = ("ema", "old") if objective.uses_old else ("ema",)
        self.averages = {
            average: {name: p.detach().clone() for name, p in parameters.items()}
            for average in names
        }
        self.images_at_once = config.images_at_once or sys.maxsize
        self.control = BetaControl(getattr(objective, "beta", 1.0)) if objective.auto_beta else None
        self.path = folder / "checkpoint.safetensors"
        self.step = checkpoint.restore(
            self.path, parameters, self.averages, self.optimizer, self._extra()
        )
        self._bad = 0
        self._pace = Pace(config.steps)
        kept = [row for row in read_lines(folder / "history.jsonl") if row["step"] <= self.step]
        self.stopped = any(row.get("stopped") for row in kept)
        # A step that was stopped while the watchers looked at it is watched again.
        self._rows = [kept.pop()] if kept and not kept[-1].get("watched", True) else []
        text = "".join(json.dumps(row) + "\n" for row in kept)
        write_atomic(folder / "history.jsonl", lambda file: file.write(text.encode()))

    def result(self) -> Mapping[str, Tensor]:
        """The weights that become the LoRA."""
        return self.averages["ema"] if self.config.ema_decay > 0 else self.parameters

    def run(self, data: GroupData, until: int) -> None:
        """Train up to step ``until`` on these groups."""
        config, host = self.config, self.host
        memory.watch(self.model.device)
        try:
            while self.step < until and not self.stopped:
                host.check_cancelled()
                row = self._train_step(data)
                self._rows.append(row)
                every = config.checkpoint_every
                due = self.step == until or bool(every and self.step % every == 0)
                if due:
                    row["checkpoint"] = True
                self._watch(row)
                left = self._pace.left(self.step)
                host.progress(self.step, config.steps, f"training{left}")
                if due or self.stopped:
                    self.save()
        except BaseException:
            # Cancelled, interrupted or failed: what is learned so far is not lost.
            self.save()
            raise

    def finish(self) -> None:
        """Let the watchers see the last step, if they were stopped while they looked at it."""
        if self._rows:
            self._watch(self._rows[-1])
            self.save()

    def _watch(self, row: dict[str, Any]) -> None:
        for watcher in self.watchers:
            self.stopped = watcher(self, row) or self.stopped
        row["watched"] = True
        if self.stopped:
            row["stopped"] = True
        place = {"run": self.folder.parent.parent.name, "training": self.folder.name}
        self.host.emit("train_step", {**place, "steps": self.config.steps, **row})

    def save(self) -> None:
        """Write the history and the checkpoint."""
        append_lines(self.folder / "history.jsonl", self._rows)
        self._rows.clear()
        checkpoint.save(
            self.path, self.step, self.parameters, self.averages, self.optimizer, self._extra()
        )

    def _extra(self) -> dict[str, Tensor]:
        extra = {} if self.control is None else {"spread": self.control.spread}
        return extra if self.bank is None else {**extra, "bank": self.bank.errors}

    @contextlib.contextmanager
    def weights(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Within this context the adapter has other weights, such as its moving average."""
        own = {name: parameter.detach().clone() for name, parameter in self.parameters.items()}
        try:
            self._set(values)
            yield
        finally:
            self._set(own)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])

    def _train_step(self, data: GroupData) -> dict[str, Any]:
        """One optimiser step; its row of the history."""
        started = time.perf_counter()
        config = self.config
        low = max(config.sigma_min, self.objective.sigma_min)
        batch = data.batch(
            config.seed,
            self.step,
            config.groups_per_step,
            self.objective,
            config.sigma_sampler,
            (low, config.sigma_max),
            config.reference_draws,
        )
        kept = None if self.bank is None else self.bank.share_known(batch)
        while True:
            try:
                seen = self._backward(batch, data)
                break
            except torch.OutOfMemoryError:
                if self.images_at_once == 1:
                    raise
                self.images_at_once = min(self.images_at_once, batch.rewards.numel()) // 2
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
        self._watch_finite(finite)
        return {
            "step": self.step,
            **seen,
            "grad_norm": float(norm) if finite else None,
            "adapter_norm": self._adapter_norm(),
            "learning_rate": rate,
            "images": batch.rewards.numel(),
            "groups": len(data.latents),
            "reference_kept": kept,
            "seconds": round(time.perf_counter() - started, 4),
            "memory": memory.used(self.model.device),
            "finite": finite,
            "watched": False,
        }

    def _watch_finite(self, finite: bool) -> None:
        self._bad = 0 if finite else self._bad + 1
        if self._bad == 3:
            raise InputError(
                "learning_rate", "the loss was not a finite number three times in a row",
                "Use a lower learning rate or a lower beta. The last good state is kept.",
            )  # fmt: skip

    def _backward(self, batch: Batch, data: GroupData) -> dict[str, float | None]:
        """Gradients of the mean loss over all groups, some images at a time; what was seen."""
        self.optimizer.zero_grad()
        targets = self.objective.targets(batch.rewards)
        seen: dict[str, float] = {}
        watched: list[tuple[Tensor, Tensor, Tensor]] = []
        groups = max(1, self.images_at_once // batch.rewards.shape[1])
        for part, wanted in zip(batch.split(groups), targets.split(groups), strict=True):
            signals, backward = self._measure(part, data)
            wanted = wanted.to(signals.errors.device)
            watched.append((part.sigma, signals.errors.detach(), signals.reference))
            result = self.objective.loss(signals, wanted)
            share = len(part) / len(batch)
            backward(result.loss * share)
            values = {
                "loss": result.loss,
                "group_loss": result.group_loss,
                "accuracy": result.stats.accuracy,
                "kendall_tau": 2 * result.stats.accuracy - 1,
                "margin": result.stats.margin,
                "top_error": top1_error(signals.errors, wanted),
                "top_reference_error": top1_error(signals.reference, wanted),
                "error": signals.errors.mean(),
                "reference_error": signals.reference.mean(),
                "drift": signals.drift.mean(),
                **result.extra,
            }
            for name, value in values.items():
                seen[name] = seen.get(name, 0.0) + share * value.item()
        if self.control is not None:
            self.control.observe(*(torch.cat(parts) for parts in zip(*watched, strict=True)))
        return {name: value if math.isfinite(value) else None for name, value in seen.items()}

    def _measure(self, batch: Batch, data: GroupData) -> tuple[Signals, Callable[[Tensor], None]]:
        """What the objective looks at, and the backward pass of a loss made of it."""
        device, k = self.model.device, batch.x0.shape[1]
        cond = data.conditioning.select(batch.groups.repeat_interleave(k)).to(device)
        x0, noise = (t.flatten(0, 1).to(device) for t in (batch.x0, batch.noise))
        sigma = batch.sigma.repeat_interleave(k).to(device)
        x = flow.interpolate(x0, noise, sigma)
        target = flow.target_velocity(x0, noise)

        def velocity(which: slice | Tensor) -> Tensor:
            self.host.check_cancelled()
            some = cond.select(torch.arange(len(x))[which])
            return self.model.velocity(x[which], sigma[which], some)

        def velocities(which: Tensor) -> list[Tensor]:
            """Of these images, some at a time."""
            return [velocity(part) for part in which.split(min(self.images_at_once, len(x)))]

        everything, old, scale, base = torch.arange(len(x)), None, None, None
        with torch.no_grad():
            with self.model.reference():
                if self.bank is None:
                    base = torch.cat(velocities(everything))
                    reference = flow.velocity_error(base, target).reshape(-1, k)
                else:
                    reference = self.bank.known(batch).to(device)
                    unknown = reference.flatten().isnan().nonzero().flatten().cpu()
                    if len(unknown):
                        found = torch.cat(velocities(unknown))
                        reference.view(-1)[unknown] = flow.velocity_error(found, target[unknown])
                        self.bank.keep(batch, reference)
            if self.objective.uses_old:
                with self.weights(self.averages["old"]):
                    old = torch.cat(velocities(everything))

        def live(part: slice) -> Tensor:
            v = velocity(part)
            error = flow.velocity_error(v, target[part])
            away = torch.full_like(error, torch.nan)
            return torch.stack(
                [error, away if base is None else flow.velocity_error(v, base[part])]
            )

        measured = microbatch.measure(live, len(x), self.images_at_once)
        errors, drift = measured.values.reshape(2, -1, k)
        if old is not None:
            old = flow.velocity_error(old, target).reshape(-1, k)
        if self.control is not None:
            scale = self.control.scale(batch.sigma).unsqueeze(-1).to(device)
        return Signals(errors, reference, drift, old, scale), measured.backward

    @torch.no_grad()
    def _adapter_norm(self) -> float:
        squares = sum(p.float().pow(2).sum() for p in self.parameters.values())
        return float(torch.as_tensor(squares).sqrt())

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights towards those in training; ``step`` is the one just taken."""
        decays = {
            "ema": min(self.config.ema_decay, (1 + self.step) / (10 + self.step)),
            "old": old_policy_decay(self.step),
        }
        for average, weights in self.averages.items():
            for name, parameter in self.parameters.items():
                weights[name].lerp_(parameter, 1 - decays[average])
