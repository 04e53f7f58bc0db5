"""Measure the model on other prompts while it trains, and stop when the reward is being fooled.

A reward that rises can still be fooled. With a guard, a second reward that notices damage which the first
does not, the corrected score of the GDRO paper, ``r (u - 3) + 0.2`` with the guard u on a scale from 1
to 5, falls when the images rot; training then stops, and the weights of the best score are kept. Chance alone
moves every measurement, so prompts are compared in pairs (``rewards.guard.is_fooled``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data.damage import DamagedFile
from ..data.disk import make_folder
from ..data.files import digest, read_record, read_tensors, write_png, write_record, write_tensors
from ..data.numbers import finite_number
from ..data.runs import RunSettings
from ..data.trainings import Training, step_sheet
from ..errors import InputError
from ..imaging import contact_sheet
from ..rewards.guard import PromptScores, corrected_score, guard_scale, is_fooled
from ..rollouts.sample import encode_in_parts, sample_prompts
from ..rollouts.scoring import score_images

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ..data.conditioning import Conditioning
    from ..data.prompts import PromptSet
    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward
    from .trainer import Trainer

log = logging.getLogger(__name__)

_SHOWN = 8
"""Prompts on a contact sheet."""

_SCORES = ("reward", "guard", "corrected")


@dataclass(frozen=True)
class Validation:
    """What is measured, and when.

    Args:
        prompts: not those of the training.
        reward: in [0, 1] if there is a guard.
        guard: a second reward that notices image damage; None is no guard.
        every: steps between measurements.
        images_per_prompt: with the same seeds every time.
        patience: measurements in a row in which the reward is fooled, compared with the best one, after
            which training stops; 0 never stops.
        seed: of the images.
    """

    prompts: PromptSet
    reward: Reward
    guard: Reward | None = None
    every: int = 50
    images_per_prompt: int = 2
    patience: int = 2
    seed: int = 2_000_000

    def check(self, model: FlowModel) -> None:
        """Raise ``InputError`` for what would otherwise fail in the middle of the training."""
        if not len(self.prompts):
            raise InputError("validation_prompts", "there are none", "Give at least one prompt.")
        model.check_prompts(self.prompts.prompts)
        self.reward.check_prompts(self.prompts.prompts)
        if self.guard is not None:
            self.guard.check_prompts(self.prompts.prompts)
            guard_scale(np.zeros(1), self.guard.range)

    def record(self) -> dict[str, Any]:
        """Return what the result depends on, JSON-able."""
        guard = self.guard
        return {
            "every": self.every,
            "images_per_prompt": self.images_per_prompt,
            "patience": self.patience,
            "seed": self.seed,
            "reward": [self.reward.name, self.reward.settings],
            "guard": None if guard is None else [guard.name, guard.settings],
            "prompts": digest([prompt.to_json() for prompt in self.prompts]),
        }


@dataclass(frozen=True)
class Measurement:
    """Mean reward, guard (1 to 5) and corrected score; the last two are None without a guard."""

    reward: float
    guard: float | None = None
    corrected: float | None = None

    @property
    def score(self) -> float:
        """What the best weights have most of."""
        return self.reward if self.corrected is None else self.corrected


class Monitor:
    """Measure base and averaged weights on the validation prompts, and keep the best weights.

    Args:
        host: for progress and cancellation.
        model: in training.
        validation: what to measure.
        sampler: settings of the rollout.
        training: the folder for measurements and the best weights.
        trained_on: how many of the prompts are also trained on.
    """

    def __init__(
        self,
        host: Host,
        model: FlowModel,
        validation: Validation,
        sampler: RunSettings,
        training: Training,
        trained_on: int = 0,
    ) -> None:
        self.host, self.model, self.validation = host, model, validation
        self.settings = RunSettings(
            sampler.model, sampler.steps, sampler.guidance, sampler.size, validation.seed,
            sampler=sampler.sampler,
        )  # fmt: skip
        self.training, self.folder = training, training.validation
        self.trained_on = trained_on
        self.best_path = self.folder / "best.safetensors"
        self._encoded: Conditioning | None = None
        self._measurements: dict[int, Measurement] | None = None

    def __call__(self, trainer: Trainer, row: dict[str, Any]) -> bool:
        step = trainer.step
        if step % self.validation.every and step != trainer.config.steps:
            return False
        measurements = self._earlier(step)
        base = self._base()
        with trainer.weights(trainer.result()):
            measurement, images, scores = self._measure(f"validating step {step}")
        make_folder(self.folder)
        if scores is not None:
            values = {name: array.tolist() for name, array in vars(scores).items()}
            write_record(self._scores_path(step), values)
        if all(measurement.score > earlier.score for earlier in measurements.values()):
            write_tensors(self.best_path, trainer.result(), {"step": str(step)})
        measurements[step] = measurement
        sheet = self._sheet(images)
        write_png(step_sheet(self.folder, step), sheet)
        row["validation"] = {**asdict(measurement), "base": asdict(base)}
        if self.trained_on:
            row["validation"]["trained_on"] = self.trained_on
        self.host.progress(step, trainer.config.steps, "training", sheet)
        return self._is_fooled(step, measurements, base)

    def best(self, last: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights of the best measurement; ``last`` if nothing was measured."""
        if not self.best_path.is_file():
            if any(map(_is_measured, self.training.rows())):
                log.warning("%s is gone: the LoRA is that of the last step", self.best_path)
            return last
        device = next(iter(last.values())).device
        remedy = (
            "Put a copy of it in its place, or delete it: the LoRA is then that of the last step."
        )
        tensors = read_tensors(self.best_path, remedy)
        if tensors.keys() != last.keys():
            raise DamagedFile(self.best_path, "it has other layers than the LoRA", remedy)
        return {name: tensor.to(device) for name, tensor in tensors.items()}

    def _is_fooled(
        self, step: int, measurements: dict[int, Measurement], base: Measurement
    ) -> bool:
        """Return whether training should stop because the reward rises at the cost of the guard."""
        patience = self.validation.patience
        if self.validation.guard is None or not patience:
            return False
        # Trainings begun in an earlier version have measurements without scores of prompts.
        scores = {s: found for s in measurements if (found := self._read_scores(s)) is not None}
        best_step = max(scores, key=lambda s: measurements[s].score)
        since = [scores[s] for s in sorted(scores) if s > best_step]
        if not is_fooled(scores[best_step], since, patience):
            return False
        best, now = measurements[best_step], measurements[step]
        log.warning(
            "stopped at step %d: the reward still rises (%.3f to %.3f) while the corrected score "
            "falls (%.3f to %.3f), so the reward is being fooled; the weights of step %d are kept%s",
            step, best.reward, now.reward, best.score, now.score, best_step,
            f", though the base itself has {base.score:.3f}" if base.score > best.score else "",
        )  # fmt: skip
        return True

    def _scores_path(self, step: int) -> Path:
        return step_sheet(self.folder, step).with_suffix(".json")

    def _read_scores(self, step: int) -> PromptScores | None:
        """Read the prompts' scores of a measurement; None if there are none, or not one per prompt."""
        try:
            values = read_record(self._scores_path(step))
            scores = PromptScores(**{name: np.array(values[name], float) for name in _SCORES})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        expected = (len(self.validation.prompts),)
        return scores if all(v.shape == expected for v in vars(scores).values()) else None

    def _earlier(self, step: int) -> dict[int, Measurement]:
        """Return the measurements before ``step``, also those of an interrupted training."""
        if self._measurements is None:
            self._measurements = {
                row["step"]: Measurement(**{name: row["validation"][name] for name in _SCORES})
                for row in self.training.rows()
                if _is_measured(row) and row["step"] < step
            }
        return self._measurements

    def _base(self) -> Measurement:
        """Measure the base model, or read its measurement."""
        path = self.folder / "base.json"
        try:
            return Measurement(**read_record(path))
        except (OSError, ValueError, TypeError):
            pass
        with self.model.reference():
            measurement, images, _ = self._measure("validating the base model")
        make_folder(self.folder)
        write_png(self.folder / "base.png", self._sheet(images))
        write_record(path, asdict(measurement))
        return measurement

    def _sheet(self, images: list[Image.Image]) -> Image.Image:
        """Lay out the first image of each of the first prompts."""
        return contact_sheet(images[:: self.validation.images_per_prompt][:_SHOWN], 4)

    def _measure(self, stage: str) -> tuple[Measurement, list[Image.Image], PromptScores | None]:
        """Sample and score the validation prompts.

        Returns:
            The means; the images, prompt after prompt; with a guard, the scores of each prompt.
        """
        v, host, count = self.validation, self.host, self.validation.images_per_prompt
        if self._encoded is None:
            self._encoded = encode_in_parts(host, self.model, v.prompts.prompts)
        prompts = [prompt for prompt in v.prompts for _ in range(count)]
        images: list[Image.Image] = []
        for _, batch in sample_prompts(
            host, self.model, v.prompts.prompts, count, self.settings, self._encoded
        ):
            images += batch
            host.progress(len(images), len(prompts), stage)
        make_room = self.model.release
        reward = score_images(host, v.reward, images, prompts, make_room)
        if v.guard is None:
            return Measurement(float(reward.mean())), images, None
        scores = score_images(host, v.guard, images, prompts, make_room)
        level = guard_scale(scores, v.guard.range)
        corrected = corrected_score(reward, level)
        means = Measurement(float(reward.mean()), float(level.mean()), float(corrected.mean()))
        by_prompt = (
            array.reshape(-1, count).mean(1, dtype=float) for array in (reward, level, corrected)
        )
        return means, images, PromptScores(*by_prompt)


def _is_measured(row: Mapping[str, Any]) -> bool:
    """Return whether a row of the history has a whole measurement."""
    found = row.get("validation")
    return isinstance(found, dict) and all(
        finite_number(found.get(name)) is not None or (found.get(name) is None and name != "reward")
        for name in _SCORES
    )
