"""What one training step sees: some groups, k images of each, one noise and one sigma a group.

A batch is a function of the seed and the step's number alone, so that a training that was stopped sees
the same batches when it goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ..data.conditioning import Conditioning
from ..data.files import digest
from ..models import flow
from . import group_sampling

if TYPE_CHECKING:
    from ..data.rollout import Rollout
    from .objectives import Objective


@dataclass(frozen=True)
class Batch:
    """``B`` groups of ``k`` images: ``groups``, ``draws`` (which of its fixed draws each group has; 0
    where they are drawn anew) and ``sigma`` are ``[B]``, ``images`` (which of the group's) and ``rewards``
    ``[B, k]``, the clean latents ``x0`` and the noise (the same for a whole group) ``[B, k, c, h, w]``."""

    groups: Tensor
    draws: Tensor
    images: Tensor
    x0: Tensor
    noise: Tensor
    sigma: Tensor
    rewards: Tensor

    def __len__(self) -> int:
        return len(self.groups)

    def split(self, size: int) -> list[Batch]:
        """The batch in parts of at most ``size`` groups."""
        parts = torch.arange(len(self)).split(size)
        fields = (
            self.groups, self.draws, self.images, self.x0, self.noise, self.sigma, self.rewards,
        )  # fmt: skip
        return [Batch(*(field[at] for field in fields)) for at in parts]


@dataclass(frozen=True)
class GroupData:
    """The teaching groups of a scored rollout: ``latents [groups, G, c, h, w]`` and
    ``rewards [groups, G]`` on the CPU, and their encoded prompts."""

    latents: Tensor
    rewards: Tensor
    conditioning: Conditioning

    @classmethod
    def read(cls, rollout: Rollout, places: list[int], rewards: np.ndarray) -> GroupData:
        """Read the groups at these places of a rollout, with rewards ``[prompts, G]``."""
        chosen = [rollout.groups()[place] for place in places]
        latents = torch.stack([g.latents()[: rollout.images_per_prompt] for g in chosen])
        conditioning = Conditioning.cat([g.conditioning() for g in chosen])
        return cls(latents, torch.from_numpy(rewards[places]), conditioning)

    def batch(
        self,
        seed: int,
        step: int,
        size: int,
        objective: Objective,
        sigma_sampler: str = "uniform",
        sigma_range: tuple[float, float] = (0.0, 1.0),
        fixed_draws: int = 0,
    ) -> Batch:
        """The batch of ``size`` groups for this step. With ``fixed_draws`` a group has as many noises and
        noise levels, one after the other, instead of new ones every time."""
        draws, count = generator(seed, step, "batch"), self.rewards.shape[1]
        turns = self._turn(seed, step * size, size)
        chosen = [group for _, group in turns]
        picks = [
            group_sampling.draw(
                self.rewards[g], objective.group_size or count, objective.draw, draws
            )
            for g in chosen
        ]
        pairs = list(zip(chosen, picks, strict=True))
        x0 = torch.stack([self.latents[g, p] for g, p in pairs]).float()
        rewards = torch.stack([self.rewards[g, p] for g, p in pairs])
        numbers = [epoch % fixed_draws if fixed_draws else 0 for epoch, _ in turns]
        sources = [draws]
        if fixed_draws:
            sources = [generator(seed, g, n, "draw") for g, n in zip(chosen, numbers, strict=True)]
        each = size // len(sources)
        noise = torch.cat([torch.randn(each, 1, *x0.shape[2:], generator=one) for one in sources])
        sigma = torch.cat(
            [flow.sample_sigma(each, one, sigma_sampler, *sigma_range) for one in sources]
        )
        return Batch(
            torch.tensor(chosen), torch.tensor(numbers), torch.stack(picks), x0, noise.expand_as(x0),
            sigma, rewards,
        )  # fmt: skip

    def _turn(self, seed: int, first: int, size: int) -> list[tuple[int, int]]:
        """(epoch, group): every group comes once, in a random order, before any comes again."""
        count, chosen = len(self.latents), []
        for number in range(first, first + size):
            epoch, place = divmod(number, count)
            order = torch.randperm(count, generator=generator(seed, epoch, "epoch"))
            chosen.append((epoch, int(order[place])))
        return chosen


def generator(*what: object) -> torch.Generator:
    """A generator on the CPU seeded by what it is for."""
    return torch.Generator().manual_seed(int(digest(list(what), 15), 16))
