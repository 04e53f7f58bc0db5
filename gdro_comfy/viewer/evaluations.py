"""Read the evaluations of a training for a viewer, by name as in ``runs``.

A ``folder`` argument is that of the training, as ``runs.training_folder`` returned it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.trainings import Training
from . import groups, runs


def find(folder: Path, name: str) -> Path:
    """Return the folder of the evaluation with this name."""
    training = Training(folder)
    paths = runs.entries(training.evaluations)
    paths.pop(training.evaluation_rollouts.name, None)
    return runs.pick(paths, name, "evaluation")


def read(folder: Path, name: str) -> dict[str, Any]:
    """Return the figures of an evaluation, and its pairs of images."""
    path = find(folder, name)
    record = runs.read_object(path / "result.json")
    return {
        "evaluation": name,
        "results": record.get("results") or [],
        "rewards": record.get("rewards") or {},
        "pairs": record.get("pairs") or [],
        "report": "report.html" in runs.entries(path, ".html"),
    }


def image(folder: Path, name: str, pair: int | None = None, model: int = 0) -> bytes:
    """Read a PNG of an evaluation: the comparison of all, or the image of a pair by one model.

    Args:
        pair: index of the pair; None is the comparison.
        model: 0 is the base, 1 the first LoRA.
    """
    path = find(folder, name)
    if pair is None:
        return runs.read_file(path / "comparison.png")
    record = runs.read_object(path / "result.json")
    if "rollouts" not in record:  # made by a version that stored the pairs as files
        return runs.read_file(path / "pairs" / f"{pair:03d}_{model}.png")
    try:
        rollout, group = str(record["rollouts"][model]), str(record["pairs"][pair]["group"])
    except (IndexError, KeyError, TypeError) as error:
        raise runs.UnknownName(f"there is no pair {pair} by model {model}") from error
    rollouts = runs.entries(Training(folder).evaluation_rollouts)
    return groups.image(runs.pick(rollouts, rollout, "rollout"), group, 0, thumbnail=False)


def report(folder: Path, name: str) -> bytes:
    """Read the report of an evaluation, HTML."""
    return runs.read_file(find(folder, name) / "report.html")
