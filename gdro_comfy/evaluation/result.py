"""What an evaluation is asked, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .statistics import Comparison

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class EvaluationConfig:
    """What to compare on.

    Args:
        images_per_prompt: seeds per prompt.
        steps, guidance, width, height: as in a rollout; 0 is the model's own size.
        seed: of the evaluation; keep it apart from the rollout's.
        strength: of the LoRA.
        pictures: rows of the side-by-side picture.
    """

    images_per_prompt: int = 4
    steps: int = 28
    guidance: float = 1.0
    width: int = 0
    height: int = 0
    seed: int = 1_000_000
    strength: float = 1.0
    pictures: int = 6


@dataclass(frozen=True)
class Result:
    """One LoRA against the base.

    ``guard`` and ``corrected`` are None without a guard. ``diversity`` is as in
    ``comparison.diversity``; ``drift`` the mean squared difference of the velocities on the base's
    pictures.
    """

    name: str
    comparison: Comparison
    guard: Comparison | None
    corrected: Comparison | None
    base_diversity: float
    diversity: float
    drift: float

    def comparisons(self) -> list[tuple[str, Comparison]]:
        """What was compared, by name."""
        found = [(self.comparison.reward, self.comparison)]
        if self.guard is not None:
            found.append((f"{self.guard.reward}, from 1 to 5", self.guard))
        if self.corrected is not None:
            found.append(("corrected score", self.corrected))
        return found

    def table(self) -> str:
        lines = [self.comparison.table()]
        for name, found in self.comparisons()[1:]:
            lines.append(
                f"{name}: {found.base:.3f} -> {found.aligned:.3f}, {found.gain:+.3f} "
                f"({found.low:+.3f} to {found.high:+.3f})"
            )
        lines.append(
            f"diversity inside groups: {self.base_diversity:.3f} -> {self.diversity:.3f}; distance "
            f"from base {self.drift:.4f}"
        )
        return "\n".join(lines)


@dataclass(frozen=True)
class Evaluation:
    """What came out for each LoRA, the side-by-side picture, and where all was written."""

    results: tuple[Result, ...]
    picture: Image.Image
    folder: Path

    @property
    def comparison(self) -> Comparison:
        """The reward of the first LoRA."""
        return self.results[0].comparison

    @property
    def report(self) -> Path:
        return self.folder / "report.html"

    def table(self) -> str:
        if len(self.results) == 1:
            return self.results[0].table()
        return "\n\n".join(f"{result.name}\n{result.table()}" for result in self.results)
