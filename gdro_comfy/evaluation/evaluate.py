"""Base against aligned, on the same prompts and the same seeds: is it better, and by how much?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.files import digest, write_atomic, write_json, write_png
from ..data.runs import RunSettings
from ..errors import InputError
from ..imaging import contact_sheet
from ..lora import files
from ..models import flow
from ..models.base import seeded_noise
from ..rewards.base import announce
from ..rewards.guard import corrected_score, guard_scale
from ..rollouts.sample import image_size, sample_prompts
from ..rollouts.scoring import score_images
from ..time_left import Pace
from . import report
from .result import Evaluation, EvaluationConfig, Result
from .statistics import Comparison, compare, diversity

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..data.aligned import TrainResult
    from ..data.prompts import Prompt, PromptSet
    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward

_DRIFT_IMAGES, _DRIFT_SIGMAS = 16, (0.25, 0.5, 0.75)


def evaluate(
    host: Host,
    model: FlowModel,
    aligned: TrainResult | Sequence[TrainResult],
    prompts: PromptSet,
    reward: Reward,
    config: EvaluationConfig | None = None,
    guard: Reward | None = None,
) -> Evaluation:
    """Sample with and without each LoRA, score all, and write the report into the folder of the first
    one's training.

    The same evaluation asked for again is read from disk.
    """
    config = config or EvaluationConfig()
    loras = list(aligned) if isinstance(aligned, Sequence) else [aligned]
    if len(prompts) < 2:
        raise InputError("prompts", f"{len(prompts)} is too few", "Evaluate on at least 2 prompts.")
    for one in loras:
        files.check_trained_for(one, model)
    size = image_size(model, config.width, config.height)
    model.check_prompts(prompts.prompts)
    for judge in filter(None, (reward, guard)):
        judge.check_prompts(prompts.prompts)
    if guard is not None:
        guard_scale(np.zeros(1), guard.range)
    key = {
        **asdict(config),
        "prompts": [prompt.to_json() for prompt in prompts],
        "reward": [reward.name, reward.settings],
        "guard": None if guard is None else [guard.name, guard.settings],
        "loras": [one.path.name for one in loras],
    }
    folder = loras[0].folder / "evaluations" / digest(key, 10)
    record, picture_file = folder / "result.json", folder / "comparison.png"
    place = {"run": loras[0].folder.parent.parent.name, "training": loras[0].folder.name}
    host.emit("evaluation", {**place, "evaluation": folder.name})
    if record.is_file() and picture_file.is_file():
        return _read(record, picture_file)

    settings = RunSettings(model.identity, config.steps, config.guidance, size, config.seed)
    job = _Job(host, model, prompts, settings, config, reward, guard, len(loras) + 1)
    states = [files.load(one.path) for one in loras]
    for one, state in zip(loras, states, strict=True):
        files.check_fits(state, model, one.path.name)
    host.free_memory()
    names = ["aligned", *(f"aligned {n}" for n in range(2, len(loras) + 1))]
    base = job.measure(contextlib.nullcontext())
    pictures = {"base": base.images}
    values: dict[str, Any] = {"base": base.values()}
    results = []
    for name, state in zip(names, states, strict=True):
        found = job.measure(model.with_lora(state, config.strength))
        pictures[name], values[name] = found.images, found.values()
        drift = job.drift(base.latents, state)
        results.append(_result(name, reward, guard, base, found, drift, config))
    every = config.images_per_prompt
    picture = report.side_by_side(pictures, prompts.prompts, every, config.pictures)
    folder.mkdir(parents=True, exist_ok=True)
    write_png(picture_file, picture)
    text = report.page(results, pictures, prompts.prompts, every).encode()
    write_atomic(folder / "report.html", lambda file: file.write(text))
    pairs = _write_pairs(folder / "pairs", pictures, prompts, every)
    rows = [asdict(result) for result in results]
    write_json(record, {"results": rows, "settings": key, "rewards": values, "pairs": pairs})
    return Evaluation(tuple(results), picture, folder)


def _read(record: Path, picture_file: Path) -> Evaluation:
    from PIL import Image

    def comparison(found: dict[str, Any] | None) -> Comparison | None:
        return None if found is None else Comparison(**found)

    results = []
    for row in json.loads(record.read_text(encoding="utf-8"))["results"]:
        compared = {k: comparison(row.pop(k)) for k in ("comparison", "guard", "corrected")}
        results.append(Result(**compared, **row))
    with Image.open(picture_file) as picture:
        return Evaluation(tuple(results), picture.convert("RGB"), record.parent)


@dataclass(frozen=True)
class _Measured:
    """Pictures of one model, with rewards and guard (1 to 5) ``[prompts, images]``, and the latents
    of the first few."""

    images: list[Image.Image]
    latents: Tensor
    rewards: np.ndarray
    guard: np.ndarray | None

    def values(self) -> dict[str, Any]:
        found = {"reward": self.rewards, "guard": self.guard}
        return {
            name: np.round(array.astype(float), 6).tolist()
            for name, array in found.items()
            if array is not None
        }


def _result(
    name: str,
    reward: Reward,
    guard: Reward | None,
    base: _Measured,
    aligned: _Measured,
    drift: float,
    config: EvaluationConfig,
) -> Result:
    guarded = corrected = None
    if guard is not None and base.guard is not None and aligned.guard is not None:
        guarded = compare(guard.name, base.guard, aligned.guard)
        corrected = compare(
            "corrected score",
            corrected_score(base.rewards, base.guard),
            corrected_score(aligned.rewards, aligned.guard),
        )
    count = config.images_per_prompt
    return Result(
        name,
        compare(reward.name, base.rewards, aligned.rewards),
        guarded,
        corrected,
        diversity(base.images, count),
        diversity(aligned.images, count),
        drift,
    )


@dataclass
class _Job:
    """What all the models of one evaluation are asked."""

    host: Host
    model: FlowModel
    prompts: PromptSet
    settings: RunSettings
    config: EvaluationConfig
    reward: Reward
    guard: Reward | None
    models: int
    done: int = 0
    pace: Pace | None = None

    def measure(self, context: contextlib.AbstractContextManager[None]) -> _Measured:
        """Sample and score with the model as it is within ``context``."""
        with self.model.active(), context:
            images, latents = self._sample()
        asked = [prompt for prompt in self.prompts for _ in range(self.config.images_per_prompt)]
        shape = (len(self.prompts), self.config.images_per_prompt)
        rewards = _score(self.host, self.reward, images, asked).reshape(shape)
        guard = None
        if self.guard is not None:
            found = _score(self.host, self.guard, images, asked).reshape(shape)
            guard = guard_scale(found, self.guard.range)
        return _Measured(images, latents, rewards, guard)

    def _sample(self) -> tuple[list[Image.Image], Tensor]:
        count = self.config.images_per_prompt
        total = self.models * len(self.prompts) * count
        self.pace = pace = self.pace or Pace(total)
        images: list[Image.Image] = []
        kept: list[Tensor] = []
        for latents, made in sample_prompts(
            self.host, self.model, self.prompts.prompts, count, self.settings
        ):
            images += made
            if sum(map(len, kept)) < _DRIFT_IMAGES:
                kept.append(latents.cpu())
            self.done += len(made)
            preview = contact_sheet(images[-16:], 4)
            left = pace.left(self.done)
            self.host.progress(self.done, total, f"evaluating{left}", preview)
        return images, torch.cat(kept)[:_DRIFT_IMAGES]

    def drift(self, latents: Tensor, state: dict[str, Tensor]) -> float:
        """Mean squared difference of the velocities on pictures of the base, over some noise levels."""
        model, n = self.model, len(latents)
        places = [i // self.config.images_per_prompt for i in range(n)]
        noise = seeded_noise(range(n), latents.shape[1:]).to(model.device)
        total = 0.0
        with model.active(), model.with_lora(state, self.config.strength), torch.no_grad():
            cond = model.encode([self.prompts.prompts[place] for place in places])
            cond = model.with_guidance(cond, self.settings.guidance)
            for level in _DRIFT_SIGMAS:
                self.host.check_cancelled()
                sigma = torch.full((n,), level, device=model.device)
                x = flow.interpolate(latents.to(model.device).float(), noise, sigma)
                moved = model.velocity(x, sigma, cond)
                with model.reference():
                    still = model.velocity(x, sigma, cond)
                total += float(flow.velocity_error(moved, still).mean())
        return total / len(_DRIFT_SIGMAS)


def _score(host: Host, reward: Reward, images: list, prompts: list[Prompt]) -> np.ndarray:
    announce(reward, len(images), images[0].size)
    return score_images(host, reward, images, prompts)


def _write_pairs(
    folder: Path, pictures: dict[str, list[Image.Image]], prompts: PromptSet, per_prompt: int
) -> list[dict[str, Any]]:
    """The first image of up to 24 prompts by each model, numbered from the base on, each a file;
    which prompts they are."""
    folder.mkdir(exist_ok=True)
    count = min(24, len(prompts))
    pairs = []
    for number in range(count):
        place = number * len(prompts) // count
        for model, images in enumerate(pictures.values()):
            write_png(folder / f"{number:03d}_{model}.png", images[place * per_prompt])
        pairs.append({"place": place, "prompt": prompts.prompts[place].text})
    return pairs
