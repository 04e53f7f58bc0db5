"""What an evaluation compares, and its result on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.checksums import crc
from ..data.files import read_record, write_record
from ..data.runs import SamplerChoice
from .statistics import Comparison

if TYPE_CHECKING:
    from PIL import Image

PICTURE, REPORT = "comparison.png", "report.html"
"""The files of an evaluation beside its results."""


@dataclass(frozen=True)
class EvaluationConfig:
    """What to compare on.

    Args:
        images_per_prompt: seeds per prompt.
        steps, guidance, width, height: as in a rollout; 0 is the model's default size.
        seed: of the evaluation; use another than the rollout's.
        strength: of the LoRA.
        pictures: rows of the side-by-side picture.
        sampler: for a model that has a choice; None is the one of the run that was trained on.
    """

    images_per_prompt: int = 4
    steps: int = 28
    guidance: float = 1.0
    width: int = 0
    height: int = 0
    seed: int = 1_000_000
    strength: float = 1.0
    pictures: int = 6
    sampler: SamplerChoice | None = None

    def as_json(self) -> dict[str, Any]:
        """Return the settings that an evaluation is told apart by."""
        settings = asdict(self)
        if self.sampler is None:
            # Evaluations from before this setting existed have no entry for it.
            del settings["sampler"]
        return settings


@dataclass(frozen=True)
class Result:
    """One LoRA against the base.

    Args:
        name: "aligned", "aligned 2", ...
        comparison: of the reward.
        guard, corrected: of the guard and the corrected score; None without a guard.
        base_diversity, diversity: see ``statistics.diversity``.
        drift: see ``drift.drift``.
    """

    name: str
    comparison: Comparison
    guard: Comparison | None
    corrected: Comparison | None
    base_diversity: float
    diversity: float
    drift: float

    def comparisons(self) -> list[tuple[str, Comparison]]:
        """Return the comparisons with their headings, the reward's first."""
        rows = [(self.comparison.reward, self.comparison)]
        if self.guard is not None:
            rows.append((f"{self.guard.reward}, from 1 to 5", self.guard))
        if self.corrected is not None:
            rows.append(("corrected score", self.corrected))
        return rows

    def table(self) -> str:
        """Return the figures as text."""
        lines = [self.comparison.table()]
        for heading, c in self.comparisons()[1:]:
            lines.append(
                f"{heading}: {c.base:.3f} -> {c.aligned:.3f}, {c.gain:+.3f} "
                f"({c.interval_text if c.has_interval else f'interval {c.interval_text}'})"
            )
        lines.append(
            f"diversity inside groups: {self.base_diversity:.3f} -> {self.diversity:.3f}; distance "
            f"from base {self.drift:.4f}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Args:
        results: one per LoRA.
        picture: base and aligned side by side.
        folder: that holds the report.
        trained_on: how many of the prompts a LoRA was trained on.
        prompts: how many there are; 0 in evaluations of earlier versions.
    """

    results: tuple[Result, ...]
    picture: Image.Image
    folder: Path
    trained_on: int = 0
    prompts: int = 0

    @property
    def comparison(self) -> Comparison:
        """The reward of the first LoRA."""
        return self.results[0].comparison

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / REPORT

    def table(self) -> str:
        """Return the figures of all LoRAs as text."""
        text = self.results[0].table()
        if len(self.results) > 1:
            text = "\n\n".join(f"{result.name}\n{result.table()}" for result in self.results)
        if self.trained_on:
            seen = f"{self.trained_on} of {self.prompts} prompts are also trained on"
            text += f"\n{seen}: the gain on them flatters"
        return text


def picture_path(folder: Path) -> Path:
    """Return the path of the side-by-side picture of an evaluation."""
    return folder / PICTURE


def write(folder: Path, results: tuple[Result, ...], **details: Any) -> None:
    """Write the results, which makes the evaluation finished.

    Args:
        details: more for ``result.json``, JSON-able: settings, rewards, rollouts, pairs.
    """
    write_record(folder / "result.json", {"results": [asdict(r) for r in results], **details})


def read(folder: Path) -> Evaluation | None:
    """Read a finished evaluation; None if it is not finished, or a file of it is gone or damaged."""
    from PIL import Image

    try:
        record = read_record(folder / "result.json")
        kept = record.get("files") or {}
        for name in (PICTURE, REPORT):
            data = (folder / name).read_bytes()
            if name in kept and kept[name] != [len(data), crc(data)]:
                return None
        rows = record["results"]
        results = []
        for row in rows:
            compared = {
                key: None if row[key] is None else Comparison(**row.pop(key))
                for key in ("comparison", "guard", "corrected")
            }
            results.append(Result(**{**row, **compared}))
        with Image.open(picture_path(folder)) as picture:
            seen, prompts = int(record.get("trained_on") or 0), record.get("settings", {})
            count = len(prompts.get("prompts", ()))
            return Evaluation(tuple(results), picture.convert("RGB"), folder, seen, count)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
