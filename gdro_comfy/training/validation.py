"""Looking at the model while it trains: pictures, and rewards on prompts of its own.

A reward that rises can still be fooled. With a guard (a second reward that sees what the first does
not), the corrected score of the GDRO paper, ``r (u - 3) + 0.2`` with the guard u on a scale from 1 to
5, falls when the pictures rot; training then stops, and the weights of the best score are kept.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from ..data.files import digest, read_lines, read_tensors, write_json, write_png, write_tensors
from ..data.rollout import Rollout
from ..data.runs import RunSettings
from ..errors import InputError
from ..imaging import contact_sheet
from ..rewards.guard import corrected_score, guard_scale
from ..rollouts.sample import sample_images, sample_prompts
from ..rollouts.scoring import score_images

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import PromptSet
    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward
    from .trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Validation:
    """What is measured, and when.

    Args:
        prompts: not those of the training.
        reward: in [0, 1] if there is a guard.
        guard: a second reward that sees pictures rot; None is no guard.
        every: steps between measurements.
        images_per_prompt: with the same seeds every time.
        patience: measurements in a row with a higher reward and a lower corrected score than at its
            best, after which training stops; 0 never stops.
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
        """Raise ``InputError`` for what would only fail in the middle of the training."""
        if not len(self.prompts):
            raise InputError("validation_prompts", "there are none", "Give at least one prompt.")
        model.check_prompts(self.prompts.prompts)
        self.reward.check_prompts(self.prompts.prompts)
        if self.guard is not None:
            self.guard.check_prompts(self.prompts.prompts)
            guard_scale(np.zeros(1), self.guard.range)

    def record(self) -> dict[str, Any]:
        """What the result depends on, JSON-able."""
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


class Previews:
    """Four pictures of the first prompts with the weights so far, the same seeds every time."""

    def __init__(self, rollout: Rollout, every: int) -> None:
        self.groups, self.settings = rollout.groups()[:4], rollout.run.settings
        self.every = every

    def __call__(self, trainer: Trainer, row: dict[str, Any]) -> bool:
        if self.every < 1 or trainer.step % self.every:
            return False
        from ..data.conditioning import Conditioning

        model = trainer.model
        cond = Conditioning.cat([group.conditioning() for group in self.groups]).to(model.device)
        seeds = list(range(len(cond)))
        _, images = sample_images(trainer.host, model, cond, seeds, self.settings)
        sheet = contact_sheet(images, 4)
        folder = trainer.folder / "samples"
        folder.mkdir(exist_ok=True)
        write_png(folder / f"step_{trainer.step:05d}.png", sheet)
        trainer.host.progress(trainer.step, trainer.config.steps, "training", sheet)
        return False


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
    """Measures base and averaged weights on the validation prompts, and keeps the best weights."""

    def __init__(
        self,
        host: Host,
        model: FlowModel,
        validation: Validation,
        sampler: RunSettings,
        folder: Path,
    ) -> None:
        self.host, self.model, self.validation = host, model, validation
        self.settings = RunSettings(
            sampler.model, sampler.steps, sampler.guidance, sampler.size, validation.seed
        )
        self.folder = folder / "validation"
        self.history = folder / "history.jsonl"
        self.path = self.folder / "best.safetensors"
        self._seen: dict[int, Measurement] | None = None

    def __call__(self, trainer: Trainer, row: dict[str, Any]) -> bool:
        v, step = self.validation, trainer.step
        if step % v.every and step != trainer.config.steps:
            return False
        seen = self._earlier(step)
        base = self._base()
        with trainer.weights(trainer.result()):
            now, images = self._measure(f"validating step {step}")
        self.folder.mkdir(exist_ok=True)
        if all(now.score > earlier.score for earlier in seen.values()):
            write_tensors(self.path, trainer.result(), {"step": str(step)})
        seen[step] = now
        sheet = self._sheet(images)
        write_png(self.folder / f"step_{step:05d}.png", sheet)
        row["validation"] = {**asdict(now), "base": asdict(base)}
        self.host.progress(step, trainer.config.steps, "training", sheet)
        best = max(seen, key=lambda s: seen[s].score)
        after = [seen[s] for s in sorted(seen) if s > best]
        fooled = [m for m in after if m.reward > seen[best].reward]
        if v.guard is None or not v.patience or len(fooled) < v.patience:
            return False
        if after[-v.patience :] != fooled[-v.patience :]:
            return False
        log.warning(
            "stopped at step %d: the reward still rises (%.3f to %.3f) while the corrected score "
            "falls (%.3f to %.3f), so the reward is being fooled; the weights of step %d are kept%s",
            step, seen[best].reward, now.reward, seen[best].score, now.score, best,
            f", though the base itself has {base.score:.3f}" if base.score > seen[best].score else "",
        )  # fmt: skip
        return True

    def best(self, last: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The weights of the best measurement; ``last`` where nothing was measured."""
        if not self.path.is_file():
            return last
        device = next(iter(last.values())).device
        return {name: tensor.to(device) for name, tensor in read_tensors(self.path).items()}

    def _earlier(self, step: int) -> dict[int, Measurement]:
        """The measurements before ``step``, also those of a training that was stopped."""
        if self._seen is None:
            names = ("reward", "guard", "corrected")
            self._seen = {
                row["step"]: Measurement(**{name: row["validation"][name] for name in names})
                for row in read_lines(self.history)
                if "validation" in row and row["step"] < step
            }
        return self._seen

    def _base(self) -> Measurement:
        """The base model's measurement, made once."""
        path = self.folder / "base.json"
        try:
            return Measurement(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            pass
        with self.model.reference():
            found, images = self._measure("validating the base model")
        self.folder.mkdir(exist_ok=True)
        write_png(self.folder / "base.png", self._sheet(images))
        write_json(path, asdict(found))
        return found

    def _sheet(self, images: list[Image.Image]) -> Image.Image:
        """The first picture of each of the first eight prompts."""
        return contact_sheet(images[:: self.validation.images_per_prompt][:8], 4)

    def _measure(self, stage: str) -> tuple[Measurement, list[Image.Image]]:
        v, host, count = self.validation, self.host, self.validation.images_per_prompt
        prompts = [prompt for prompt in v.prompts for _ in range(count)]
        images: list[Image.Image] = []
        for _, made in sample_prompts(host, self.model, v.prompts.prompts, count, self.settings):
            images += made
            host.progress(len(images), len(prompts), stage)
        reward = score_images(host, v.reward, images, prompts)
        if v.guard is None:
            return Measurement(float(reward.mean())), images
        level = guard_scale(score_images(host, v.guard, images, prompts), v.guard.range)
        corrected = float(corrected_score(reward, level).mean())
        return Measurement(float(reward.mean()), float(level.mean()), corrected), images
