"""Train in rounds: sample new groups with the weights so far, score them, and train on them.

The first round trains on the groups of the rollout. Each later round is a run in the training's folder,
and is resumed and scored like any other.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data.rollout import SAMPLED_WITH, Rollout
from ..data.runs import Run
from ..errors import InputError
from ..rewards.base import RolloutReward
from ..rollouts.sample import sample_missing
from ..rollouts.scoring import score_rollout
from . import group_sampling
from .batches import GroupData, generator

if TYPE_CHECKING:
    import numpy as np

    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward
    from .objectives import Objective
    from .trainer import Trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounds:
    """When and how new groups are sampled.

    Args:
        rounds: parts into which the steps are divided; 1 is offline training.
        prompts_per_round: drawn at random from the rollout's; 0 is all of them.
        images_per_prompt: of a new group; 0 is as many as in the rollout.
        sampling_steps: of a deterministic sampler; 0 is as many as in the rollout.
        weights: that sample the groups: the averaged ones ("ema"), the "current" ones, or those of the
            objective's older policy ("old").
    """

    rounds: int = 1
    prompts_per_round: int = 0
    images_per_prompt: int = 0
    sampling_steps: int = 0
    weights: str = "ema"

    def ends(self, steps: int) -> list[int]:
        """Return the step at which each round ends, of ``steps`` in all."""
        return [steps * (number + 1) // self.rounds for number in range(self.rounds)]

    def check(self, steps: int, reward: Reward | None, objective: Objective) -> None:
        """Raise ``InputError`` if there cannot be that many rounds."""
        if self.rounds > 1 and reward is None:
            raise InputError(
                "reward",
                f"{self.rounds} rounds need it to score their new groups, and none is connected",
                "Connect the reward that scored the rollout, or set rounds to 1.",
            )
        if self.rounds > 1 and isinstance(reward, RolloutReward):
            reward.check_new_images()
        if not 1 <= self.rounds <= steps:
            raise InputError(
                "rounds",
                f"{self.rounds} do not fit into {steps} steps",
                f"Use 1 to {steps} rounds, or more steps.",
            )
        if self.weights == "old" and not objective.uses_old:
            raise InputError(
                "weights",
                "there are no older weights to sample with: clip is 0",
                'Use "ema" or "current", or a clip above 0.',
            )
        if self.images_per_prompt == 1:
            raise InputError(
                "images_per_prompt",
                "1 leaves nothing to compare",
                "Use 2 or more, or 0 for as many as in the rollout.",
            )


def first_round(model: FlowModel, rollout: Rollout, scores: np.ndarray, k: int) -> GroupData:
    """Read the teaching groups of a rollout with scores ``[prompts, G]``, k images of each (0: all)."""
    indices = group_sampling.teaching_groups(scores, k)
    left_out = len(scores) - len(indices)
    reason = f"; in the other {left_out}, rewards are all equal or too few" if left_out else ""
    log.info("training on %d of %d groups%s", len(indices), len(scores), reason)
    return _read(model, rollout, indices, scores)


def _read(model: FlowModel, rollout: Rollout, indices: list[int], scores: np.ndarray) -> GroupData:
    """Read groups, with the guidance that sampled them where the network is told it."""
    data = GroupData.read(rollout, indices, scores)
    guided = model.with_guidance(data.conditioning, rollout.run.settings.guidance)
    return dataclasses.replace(data, conditioning=guided)


def next_round(
    host: Host, trainer: Trainer, first: Rollout, reward: Reward, rounds: Rounds, number: int
) -> GroupData | None:
    """Sample, score and read the groups of round ``number``, from 1 on; None if they teach nothing.

    What an interrupted call left is used: it had the same weights.
    """
    base, seed = first.run.settings, trainer.config.seed
    settings = dataclasses.replace(
        base,
        model={**base.model, SAMPLED_WITH: {"training": trainer.training.name, "round": number}},
        steps=rounds.sampling_steps or base.steps,
        seed=base.seed + number,
        source_digest=None,
    )
    run = Run.at(trainer.training.round(number), f"round {number}", settings)
    prompts = first.prompts
    if 0 < rounds.prompts_per_round < len(prompts):
        order = group_sampling.permutation(len(prompts), generator(seed, number, "round"))
        prompts = tuple(prompts[index] for index in sorted(order[: rounds.prompts_per_round]))
    rollout = Rollout(run, prompts, rounds.images_per_prompt or first.images_per_prompt)
    weights = trainer.averages.get(rounds.weights, trainer.parameters)
    with trainer.weights(weights):
        sample_missing(host, trainer.model, rollout, encoded=first)
    rollout = score_rollout(host, rollout, reward, trainer.model.release)
    scores = rollout.scores()
    log.info("round %d: mean reward %.3f", number, float(scores.mean()))
    try:
        indices = group_sampling.teaching_groups(scores, trainer.objective.group_size)
    except InputError:
        log.warning("round %d: all rewards of every group are equal; it teaches nothing", number)
        return None
    return _read(trainer.model, rollout, indices, scores)
