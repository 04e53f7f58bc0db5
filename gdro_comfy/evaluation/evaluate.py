"""Compare base and aligned model on the same prompts and seeds: is it better, and by how much?

An evaluation is a rollout of the base, one of each LoRA, and a comparison. The rollouts lie in the folder of
the first LoRA's training: an interrupted evaluation goes on where it stopped, and another evaluation
with the same sampler settings shares their images.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.checksums import crc
from ..data.damage import setting_aside
from ..data.disk import make_folder
from ..data.files import digest, png_bytes, write_atomic
from ..data.identity import same_base
from ..data.rollout import SAMPLED_WITH, Rollout
from ..data.run_lock import writing
from ..data.runs import Run, RunSettings, read_settings
from ..errors import InputError
from ..lora import files as lora_files
from ..rewards.guard import corrected_score, guard_scale
from ..rollouts.sample import guidance_of, image_size, sample_missing
from ..rollouts.scoring import score_rollout
from . import report, result
from .drift import drift
from .result import Evaluation, EvaluationConfig, Result
from .statistics import compare, diversity

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from ..data.aligned import AlignedLoRA
    from ..data.lora_weights import LoRAWeights
    from ..data.prompts import PromptSet
    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward

log = logging.getLogger(__name__)

_PAIRS = 24
"""Prompts whose images a panel shows in pairs."""


def check_enough(prompts: PromptSet) -> None:
    """Raise ``InputError`` if there are too few prompts to tell a gain from chance."""
    if len(prompts) < 2:
        raise InputError("prompts", f"{len(prompts)} is too few", "Evaluate on at least 2 prompts.")


def evaluate(
    host: Host,
    model: FlowModel,
    aligned: AlignedLoRA | Sequence[AlignedLoRA],
    prompts: PromptSet,
    reward: Reward,
    config: EvaluationConfig | None = None,
    guard: Reward | None = None,
) -> Evaluation:
    """Sample with and without each LoRA, score everything, and write a report.

    A finished evaluation asked for again is read from disk.

    Args:
        aligned: one LoRA or several; the report is written into the training of the first.
        prompts: at least 2, not those of the training.
        guard: a second reward with a finite range, for the corrected score.

    Raises:
        InputError: a LoRA is for another model, or a prompt, size or reward does not fit.
        RewardError: a reward returned no finite number.
    """
    config = config or EvaluationConfig()
    config = replace(config, guidance=guidance_of(model, config.guidance))
    loras = list(aligned) if isinstance(aligned, Sequence) else [aligned]
    check_enough(prompts)
    for lora in loras:
        lora_files.check_trained_for(lora, model)
    size = image_size(model, config.width, config.height)
    model.check_prompts(prompts.prompts)
    for judge in filter(None, (reward, guard)):
        judge.check_prompts(prompts.prompts)
    if guard is not None:
        guard_scale(np.zeros(1), guard.range)
    record = {
        **config.as_json(),
        "prompts": [prompt.to_json() for prompt in prompts],
        "reward": [reward.name, reward.settings],
        "guard": None if guard is None else [guard.name, guard.settings],
        "loras": [lora.path.name for lora in loras],
    }
    training = loras[0].training
    recorded = read_settings(training.run_folder).get("model")
    base_of_run = (
        {k: v for k, v in recorded.items() if k != SAMPLED_WITH}
        if isinstance(recorded, dict)
        else {}
    )
    model = model.as_recorded(base_of_run)
    if not same_base(base_of_run, model.identity):
        record["model"] = model.identity  # such as with another VAE
    folder = training.evaluations / digest(record, 10)
    location = {"run": training.run_name, "training": training.name}
    host.emit("evaluation", {**location, "evaluation": folder.name})
    finished = result.read(folder)
    if finished is not None:
        return finished
    trained_on = sum(any(lora.knows(prompt) for lora in loras) for prompt in prompts)
    if trained_on:
        log.warning(
            "%d of %d prompts are also trained on: the gain on them flatters",
            trained_on,
            len(prompts),
        )

    weights = [lora_files.load(lora.path) for lora in loras]
    for lora, state in zip(loras, weights, strict=True):
        lora_files.check_fits(state, model, lora.path.name)
    sampler = model.resolve_sampler(config.sampler or loras[0].sampler(), config.guidance)
    settings = RunSettings(
        model.identity, config.steps, config.guidance, size, config.seed, sampler=sampler
    )
    with writing(training.run_folder), setting_aside():
        root, count = training.evaluation_rollouts, config.images_per_prompt
        base = _rollout(root, "base", settings, prompts, count)
        rollouts = {"base": base}
        for number, lora in enumerate(loras, 1):
            name = "aligned" if number == 1 else f"aligned {number}"
            rollouts[name] = _rollout(
                root, "aligned", settings, prompts, count, lora, config.strength
            )
        drifts = _sample(host, model, rollouts, weights, config.strength)

        scores = {name: _scores(host, rollout, reward, guard) for name, rollout in rollouts.items()}
        results = tuple(
            _result(name, reward, guard, rollouts, scores, moved)
            for name, moved in zip(list(rollouts)[1:], drifts, strict=True)
        )
        picture = report.side_by_side(rollouts, config.pictures)
        make_folder(folder)
        shown = {
            result.PICTURE: png_bytes(picture),
            result.REPORT: report.page(results, rollouts).encode(),
        }
        for name, data in shown.items():
            write_atomic(folder / name, lambda file, data=data: file.write(data))
        values = {
            name: {kind: np.round(array.astype(float), 6).tolist() for kind, array in kinds.items()}
            for name, kinds in scores.items()
        }
        result.write(
            folder,
            results,
            settings=record,
            rewards=values,
            rollouts=[rollout.run.folder.name for rollout in rollouts.values()],
            pairs=_pairs(base),
            files={name: [len(data), crc(data)] for name, data in shown.items()},
            trained_on=trained_on,
        )
        return Evaluation(results, picture, folder, trained_on, len(prompts))


def _rollout(
    root: Path,
    kind: str,
    settings: RunSettings,
    prompts: PromptSet,
    count: int,
    lora: AlignedLoRA | None = None,
    strength: float = 1.0,
) -> Rollout:
    """Open the rollout of the base or of a LoRA."""
    if lora is not None:
        on = {"lora": lora.path.stem, **({} if strength == 1 else {"strength": strength})}
        model = {**settings.model, SAMPLED_WITH: on}
        settings = replace(settings, model=model)
    settings = settings.as_recorded(lambda s: root / f"{kind}-{s.key()}")
    run = Run.at(root / f"{kind}-{settings.key()}", kind, settings)
    return Rollout(run, tuple(prompts), count)


def _sample(
    host: Host,
    model: FlowModel,
    rollouts: dict[str, Rollout],
    weights: Sequence[LoRAWeights],
    strength: float,
) -> list[float]:
    """Sample what is missing, with the model on its device throughout; return each LoRA's drift."""
    base, *others = rollouts.items()
    host.free_memory()
    with model.active():
        sample_missing(host, model, base[1], stage="evaluating, base")
        for (name, rollout), state in zip(others, weights, strict=True):
            with model.with_lora(state, strength):
                sample_missing(host, model, rollout, encoded=base[1], stage=f"evaluating, {name}")
        return [drift(host, model, base[1], state, strength) for state in weights]


def _scores(
    host: Host, rollout: Rollout, reward: Reward, guard: Reward | None
) -> dict[str, np.ndarray]:
    """Score a rollout: "reward", and "guard" from 1 to 5, each ``[prompts, images]``."""
    scores = {"reward": score_rollout(host, rollout, reward).scores()}
    if guard is not None:
        scores["guard"] = guard_scale(score_rollout(host, rollout, guard).scores(), guard.range)
    return scores


def _result(
    name: str,
    reward: Reward,
    guard: Reward | None,
    rollouts: dict[str, Rollout],
    scores: dict[str, dict[str, np.ndarray]],
    moved: float,
) -> Result:
    base, aligned = scores["base"], scores[name]
    guarded = corrected = None
    if guard is not None:
        guarded = compare(guard.name, base["guard"], aligned["guard"])
        corrected = compare(
            "corrected score",
            corrected_score(base["reward"], base["guard"]),
            corrected_score(aligned["reward"], aligned["guard"]),
        )
    count = rollouts["base"].images_per_prompt
    return Result(
        name,
        compare(reward.name, base["reward"], aligned["reward"]),
        guarded,
        corrected,
        diversity(_images(rollouts["base"]), count),
        diversity(_images(rollouts[name]), count),
        moved,
    )


def _images(rollout: Rollout) -> Iterator[Image.Image]:
    """Read the images of a rollout one after the other, group by group."""
    for group in rollout.groups():
        for index in range(rollout.images_per_prompt):
            yield group.image(index)


def _pairs(base: Rollout) -> list[dict[str, Any]]:
    """Return the prompts whose first images a panel shows: index, text and group id."""
    groups = base.groups()
    return [
        {"place": i, "prompt": base.prompts[i].text, "group": groups[i].folder.name}
        for i in report.spread_out(len(groups), _PAIRS)
    ]
