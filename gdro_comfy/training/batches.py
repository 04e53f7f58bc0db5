"""What one training step trains on: some groups, k images of each, at one or several noise levels.

A batch is a function of seed and step alone, so that an interrupted training sees the same batches when
it goes on.
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
    """``B`` rows of ``k`` images: a group at a noise level. A group at several levels has several rows.

    Args:
        groups: which group of the data each row is, ``[B]``.
        draws: which of its fixed draws each row has, ``[B]``; 0 where noise is drawn anew.
        images: which images of its group, ``[B, k]``.
        x0: clean latents, ``[B, k, c, h, w]``.
        noise: of the shape of ``x0``; the same for a whole row, or each image's own.
        sigma: noise level of each row, ``[B]``.
        rewards: scores, ``[B, k]``.
    """

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
        """Split into batches of at most ``size`` rows."""
        parts = torch.arange(len(self)).split(size)
        fields = (
            self.groups, self.draws, self.images, self.x0, self.noise, self.sigma, self.rewards,
        )  # fmt: skip
        return [Batch(*(field[part] for field in fields)) for part in parts]


@dataclass(frozen=True)
class GroupData:
    """The teaching groups of a scored rollout, on the CPU.

    Args:
        latents: ``[groups, G, c, h, w]``.
        rewards: scores, ``[groups, G]``.
        conditioning: one encoded prompt per group.
    """

    latents: Tensor
    rewards: Tensor
    conditioning: Conditioning

    @classmethod
    def read(cls, rollout: Rollout, indices: list[int], scores: np.ndarray) -> GroupData:
        """Read the groups at these indices of a rollout, with scores ``[prompts, G]`` of all groups."""
        groups = [rollout.groups()[index] for index in indices]
        latents = torch.stack([g.latents()[: rollout.images_per_prompt] for g in groups])
        conditioning = Conditioning.cat([g.conditioning() for g in groups])
        return cls(latents, torch.from_numpy(scores[indices]), conditioning)

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
        """Return the batch of a step.

        Args:
            seed: of the training.
            step: counted from 0.
            size: groups in the batch.
            objective: says how many images of a group, and which; at how many noise levels, one from each
                equal part of their distribution; and whether the images of a row share their noise.
            sigma_sampler, sigma_range: see ``flow.sample_sigma``.
            fixed_draws: pairs of noise and sigma that each group cycles through; 0 draws new ones
                every time.
        """
        draws, count = generator(seed, step, "batch"), self.rewards.shape[1]
        turns = self._turns(seed, step * size, size)
        chosen = [group for _, group in turns]
        picks = [
            group_sampling.draw(
                self.rewards[group], objective.group_size or count, objective.draw, draws
            )
            for group in chosen
        ]
        levels = objective.noise_levels
        chosen = [group for group in chosen for _ in range(levels)]
        picks = [images for images in picks for _ in range(levels)]
        pairs = list(zip(chosen, picks, strict=True))
        x0 = torch.stack([self.latents[group, images] for group, images in pairs]).float()
        rewards = torch.stack([self.rewards[group, images] for group, images in pairs])
        numbers = [
            epoch % fixed_draws if fixed_draws else 0 for epoch, _ in turns for _ in range(levels)
        ]
        sources = [draws]
        if fixed_draws:
            sources = [generator(seed, g, n, "draw") for g, n in zip(chosen, numbers, strict=True)]
        per_source = len(chosen) // len(sources)
        shape = (per_source, 1 if objective.shared_noise else x0.shape[1], *x0.shape[2:])
        noise = torch.cat([torch.randn(shape, generator=source) for source in sources])
        sigma = torch.cat(
            [
                flow.sample_sigma(per_source, s, sigma_sampler, *sigma_range, strata=levels)
                for s in sources
            ]
        )
        return Batch(
            torch.tensor(chosen), torch.tensor(numbers), torch.stack(picks), x0, noise.expand_as(x0),
            sigma, rewards,
        )  # fmt: skip

    def _turns(self, seed: int, first: int, size: int) -> list[tuple[int, int]]:
        """Return (epoch, group) pairs: every group comes once, in random order, before any repeats."""
        count, turns = len(self.latents), []
        for number in range(first, first + size):
            epoch, position = divmod(number, count)
            order = torch.randperm(count, generator=generator(seed, epoch, "epoch"))
            turns.append((epoch, int(order[position])))
        return turns


def generator(*purpose: object) -> torch.Generator:
    """Return a CPU generator seeded by a digest of its purpose."""
    return torch.Generator().manual_seed(int(digest(list(purpose), 15), 16))
