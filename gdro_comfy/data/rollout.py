"""The handle on the groups of some prompts in a run: ``GDRO_ROLLOUT`` on the wire."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from .groups import Group
from .prompts import Prompt
from .runs import Run
from .scores import read_scores

if TYPE_CHECKING:
    import numpy as np


SAMPLED_WITH = "sampled_with"
"""The key of a run's model under which stands which LoRA was on it while it sampled."""


@dataclass(frozen=True)
class Rollout:
    """The groups of some prompts in a run; the images stay on disk.

    Args:
        run: that holds them.
        prompts: one per group.
        images_per_prompt: G, the size of each group.
        score_file: name of the scores to train on; None before scoring.
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
        """Return the groups in the order of the prompts."""
        return [self.run.group(prompt) for prompt in self.prompts]

    def scored(self, score_file: str) -> Rollout:
        """Return the same groups with these scores."""
        return dataclasses.replace(self, score_file=score_file)

    def scores(self) -> np.ndarray:
        """Read the scores, float32 ``[prompts, G]``; NaN where the reward left an image out.

        Raises:
            InputError: there is no score file, or it lacks some of the images.
        """
        import numpy as np

        if self.score_file is None:
            raise InputError(
                "rollout",
                "these groups have no scores yet",
                "Put GDRO Score Rollout before this node.",
            )
        values = {
            key: math.nan if row["value"] is None else row["value"]
            for key, row in read_scores(self.run.score_path(self.score_file)).items()
        }
        count = self.images_per_prompt
        keys = [(group.folder.name, index) for group in self.groups() for index in range(count)]
        missing = len(keys) - sum(key in values for key in keys)
        if missing:
            raise InputError(
                "rollout",
                f"{missing} of {len(keys)} images have no score",
                "Run GDRO Score Rollout on the same rollout first.",
            )
        return np.array([values[key] for key in keys], dtype=np.float32).reshape(-1, count)
