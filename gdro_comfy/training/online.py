"""Training in rounds: new groups from the model as it is by then, scored, and trained on.

The first round trains on the groups that are there. Each later round is a run of its own in the
training's folder, so that it is resumed, looked at and scored like any other.
"""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data import rollout
from ..data.rollout import Rollout
from ..data.runs import Run
from ..errors import InputError
from ..rewards.base import RolloutReward
from ..rollouts import sample, scoring
from . import group_sampling
from .batches import GroupData, generator

if TYPE_CHECKING:
    import numpy as np

    from ..host import Host
    from ..models.base import FlowModel
    from ..rewards.base import Reward
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
        weights: that sample the groups, the averaged ones ("ema") or the "current" ones.
    """

    rounds: int = 1
    prompts_per_round: int = 0
    images_per_prompt: int = 0
    sampling_steps: int = 0
    weights: str = "ema"

    def ends(self, steps: int) -> list[int]:
        """The step at which each round ends, of ``steps`` in all."""
        return [steps * (number + 1) // self.rounds for number in range(self.rounds)]

    def check(self, steps: int, reward: Reward | None) -> None:
        """Raise ``InputError`` if there cannot be that many rounds."""
        if self.rounds > 1 and reward is None:
            raise InputError(
                "reward",
                f"{self.rounds} rounds need it to score their new groups, and none is connected",
                "Connect the reward that scored the rollout, or set rounds to 1.",
            )
        if self.rounds > 1 and isinstance(reward, RolloutReward):
            reward.check_new_pictures()
        if not 1 <= self.rounds <= steps:
            raise InputError(
                "rounds",
                f"{self.rounds} do not fit into {steps} steps",
                f"Use 1 to {steps} rounds, or more steps.",
            )
        if self.images_per_prompt == 1:
            raise InputError(
                "images_per_prompt",
                "1 leaves nothing to compare",
                "Use 2 or more, or 0 for as many as in the rollout.",
            )


def first_round(model: FlowModel, scored: Rollout, k: int) -> GroupData:
    """The teaching groups of a scored rollout, for k images of each (0: all)."""
    rewards = scored.scores()
    places = group_sampling.teaching_groups(rewards, k)
    log.info(
        "training on %d of %d groups (the others are all alike, or too little is rated)",
        len(places),
        len(rewards),
    )
    return _read(model, scored, places, rewards)


def _read(model: FlowModel, scored: Rollout, places: list[int], rewards: np.ndarray) -> GroupData:
    """The groups, trained with the embedded guidance that sampled them, where the model has one."""
    data = GroupData.read(scored, places, rewards)
    guided = model.with_guidance(data.conditioning, scored.run.settings.guidance)
    return dataclasses.replace(data, conditioning=guided)


def next_round(
    host: Host, trainer: Trainer, first: Rollout, reward: Reward, rounds: Rounds, number: int
) -> GroupData | None:
    """Sample, score and read the groups of round ``number`` (from 1); None if they teach nothing.

    What an earlier call made of them is used: the weights were the same then.
    """
    base, seed = first.run.settings, trainer.config.seed
    settings = dataclasses.replace(
        base,
        model={
            **base.model,
            rollout.SAMPLED_WITH: {"training": trainer.folder.name, "round": number},
        },
        steps=rounds.sampling_steps or base.steps,
        seed=base.seed + number,
        pictures=None,
    )
    run = Run.at(trainer.folder / "rounds" / f"{number:02d}", f"round {number}", settings)
    prompts = first.prompts
    if 0 < rounds.prompts_per_round < len(prompts):
        order = group_sampling.shuffled(len(prompts), generator(seed, number, "round"))
        prompts = tuple(prompts[place] for place in sorted(order[: rounds.prompts_per_round]))
    new = Rollout(run, prompts, rounds.images_per_prompt or first.images_per_prompt)
    weights = trainer.averages["ema"] if rounds.weights == "ema" else trainer.parameters
    with trainer.weights(weights):
        sample.fill(host, trainer.model, new)
    new = scoring.score_rollout(host, new, reward)
    rewards = new.scores()
    log.info("round %d: mean reward %.3f", number, float(rewards.mean()))
    try:
        places = group_sampling.teaching_groups(rewards, trainer.objective.group_size)
    except InputError:
        log.warning("round %d: all rewards of every group are equal; training ends here", number)
        return None
    return _read(trainer.model, new, places, rewards)
