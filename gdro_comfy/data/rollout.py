"""The handle on the groups of some prompts in a run: what is on the wire GDRO_ROLLOUT."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .prompts import Prompt
from .runs import Group, Run

if TYPE_CHECKING:
    import numpy as np


SAMPLED_WITH = "sampled_with"
"""The key of a run's model under which stands what was on it while it sampled."""


@dataclass(frozen=True)
class Rollout:
    """A handle on the groups of some prompts in a run; the images stay on disk.

    ``score_file`` names the scores to train on, once there are any.
    """

    run: Run
    prompts: tuple[Prompt, ...]
    images_per_prompt: int
    score_file: str | None = None

    @property
    def base_identity(self) -> dict[str, Any]:
        """The identity of the base model that sampled it, whether or not a LoRA was on it."""
        return {k: v for k, v in self.run.settings.model.items() if k != SAMPLED_WITH}

    def groups(self) -> list[Group]:
        return [self.run.group(prompt) for prompt in self.prompts]

    def scored(self, score_file: str) -> Rollout:
        return dataclasses.replace(self, score_file=score_file)

    def scores(self) -> np.ndarray:
        """Rewards float32 ``[prompts, G]`` of the chosen score file; NaN where the reward left an image
        out.

        Raises:
            InputError: there is no score file, or it lacks some of the images.
        """
        import numpy as np

        from ..data.files import read_lines

        if self.score_file is None:
            raise InputError(
                "rollout",
                "these groups have no scores yet",
                "Put GDRO Score Rollout before this node.",
            )
        found = {
            (row["prompt"], row["image"]): math.nan if row["value"] is None else row["value"]
            for row in read_lines(self.run.folder / "scores" / self.score_file)
        }
        count = self.images_per_prompt
        keys = [(group.folder.name, place) for group in self.groups() for place in range(count)]
        missing = len(keys) - sum(key in found for key in keys)
        if missing:
            raise InputError(
                "rollout",
                f"{missing} of {len(keys)} images have no score",
                "Run GDRO Score Rollout on the same rollout first.",
            )
        return np.array([found[key] for key in keys], dtype=np.float32).reshape(-1, count)
