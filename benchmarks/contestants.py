"""Train the bundled model with each algorithm on the same compute; ``algorithms.py`` compares them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import flow_grpo
import numpy as np
import torch
from torch import Tensor

from gdro_comfy import rewards
from gdro_comfy.data.aligned import AlignedLoRA
from gdro_comfy.data.files import write_tensors
from gdro_comfy.data.lora_weights import LoRAWeights
from gdro_comfy.data.rollout import Rollout
from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.imaging import to_pil
from gdro_comfy.lora import files
from gdro_comfy.models.base import AdapterConfig, FlowModel
from gdro_comfy.training.awm import AWM
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.losses import group_stats
from gdro_comfy.training.nft import NFT
from gdro_comfy.training.objectives import (
    DGPO,
    DPO,
    GDRO,
    Objective,
    ObjectiveResult,
    Signals,
    top1_error,
)
from gdro_comfy.training.online import Rounds
from gdro_comfy.training.train import train

GROUPS, IMAGES, STEPS, GUIDANCE = 8, 16, 8, 1.0
"""Groups in a training step, images in a group, and sampling settings."""
ADAPTER = AdapterConfig(32, 32.0, "attention+mlp")


@dataclass(frozen=True)
class BestOfGroup(Objective):
    """Supervised fine-tuning on the best image of each group; the rest of the group is not used."""

    group_size: int = 6
    draw: str = "best and worst"

    def loss(self, signals: Signals, targets: Tensor) -> ObjectiveResult:
        best = top1_error(signals.errors, targets)
        stats = group_stats(-signals.errors.detach(), targets)
        return ObjectiveResult(best, stats, best.detach(), {})


class PassCounter:
    """Count a model's passes in images; a pass with gradients also counts its backward pass (2)."""

    def __init__(self, model: FlowModel) -> None:
        self.passes = 0
        velocity = model.velocity

        def counted(x, sigma, cond):
            self.passes += len(x) * (3 if torch.is_grad_enabled() else 1)
            return velocity(x, sigma, cond)

        model.velocity = counted  # type: ignore[method-assign]


@dataclass
class Contest:
    """What the contestants share.

    Args:
        host: The host of the console.
        model: The base model.
        counter: Counts the model's passes.
        rollout: The scored groups that offline contestants train on.
        reward: The reward that scored them.
        budget: Passes that each contestant may use, in images, including sampling.
        rate: Learning rate.
    """

    host: ConsoleHost
    model: FlowModel
    counter: PassCounter
    rollout: Rollout
    reward: rewards.Reward
    budget: int
    rate: float

    @property
    def shared_passes(self) -> int:
        """Passes that sampling the shared rollout takes."""
        return len(self.rollout.prompts) * IMAGES * STEPS

    def contestants(self) -> dict[str, Callable[[int], AlignedLoRA]]:
        """Return the trainings by name; each takes a seed."""
        gdro = GDRO(group_size=6, beta=8.0, top1_weight=3.0, draw="best and worst")
        ranking = dataclasses.replace(gdro, temperature=0.0)
        return {
            "gdro": lambda seed: self._offline(gdro, seed),
            "dgpo": self._dgpo,
            "dgpo-published": self._dgpo_published,
            "nft": lambda seed: self._about_old(NFT(), seed, 2 * self.rate),
            "awm": lambda seed: self._about_old(AWM(noise_levels=2), seed, self.rate),
            "dpo": lambda seed: self._offline(DPO(), seed),
            "ranking": lambda seed: self._offline(ranking, seed),
            "best-of-group": lambda seed: self._offline(BestOfGroup(), seed),
            "flow-grpo": self._flow_grpo,
        }

    def _steps(self, passes_per_step: int, sampling: int = 0) -> int:
        """Return the optimiser steps left in the budget after sampling the shared and further groups."""
        return max(1, (self.budget - self.shared_passes - sampling) // passes_per_step)

    def _config(
        self, steps: int, seed: int, groups: int = GROUPS, ema_every: int = 1
    ) -> TrainConfig:
        return TrainConfig(
            ema_every=ema_every,
            steps=steps,
            groups_per_step=groups,
            learning_rate=self.rate,
            adapter=ADAPTER,
            preview_every=0,
            seed=seed,
        )

    def _offline(self, objective: Objective, seed: int) -> AlignedLoRA:
        """Train on the shared rollout."""
        # Forward, backward and reference pass of each image.
        steps = self._steps(GROUPS * objective.group_size * 4)
        config = self._config(steps, seed)
        return train(self.host, self.model, self.rollout, objective, config)

    def _dgpo(self, seed: int) -> AlignedLoRA:
        """Train in rounds, the first on the shared rollout and the others on new groups."""
        rounds, groups = Rounds(rounds=6, prompts_per_round=8), 3
        sampling = (rounds.rounds - 1) * rounds.prompts_per_round * IMAGES * STEPS
        # Forward, backward, reference and old-policy pass of each image.
        steps = self._steps(groups * IMAGES * 5, sampling)
        config = self._config(steps, seed, groups)
        objective = DGPO(sigma_min=0.67)
        return train(self.host, self.model, self.rollout, objective, config, rounds, self.reward)

    def _dgpo_published(self, seed: int) -> AlignedLoRA:
        """Train on new groups in every step, at 4 noise levels, about the base with guidance."""
        groups, levels = 8, 4
        # Forward, backward, older policy and two passes of the guided reference; and the sampling.
        per_step = groups * IMAGES * (levels * 6 + STEPS)
        steps = self._steps(per_step)
        config = self._config(steps, seed, groups, ema_every=min(8, steps))
        rounds = Rounds(rounds=steps, prompts_per_round=groups, weights="current")
        objective = DGPO(clip=1e-3, reference_guidance=4.5, noise_levels=levels)
        return train(self.host, self.model, self.rollout, objective, config, rounds, self.reward)

    def _about_old(self, objective: NFT | AWM, seed: int, rate: float) -> AlignedLoRA:
        """Train in rounds about the weights that sampled each, the first on the shared rollout."""
        groups, prompts = 4, min(24, len(self.rollout.prompts))
        sampling = 4 * prompts * IMAGES * STEPS
        # Forward, backward, reference and older policy at each noise level.
        steps = self._steps(groups * IMAGES * objective.noise_levels * 5, sampling)
        rounds = Rounds(rounds=min(5, steps), prompts_per_round=prompts, weights="old")
        config = dataclasses.replace(self._config(steps, seed, groups), learning_rate=rate)
        return train(self.host, self.model, self.rollout, objective, config, rounds, self.reward)

    def _flow_grpo(self, seed: int) -> AlignedLoRA:
        """Sample a group and train on it, prompt by prompt, until the budget is spent."""
        model, settings = self.model, flow_grpo.FlowGRPO()
        prompts = self.rollout.prompts
        folder = Path(self.host.output_dir) / f"flow_grpo_{self.rate:g}_{self.budget}_{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        shape = self.rollout.groups()[0].latents().shape[1:]
        start = self.counter.passes
        order = np.random.default_rng(seed).permutation(len(prompts))
        number = 0
        with torch.enable_grad(), model.active(), model.adapters(ADAPTER, seed) as parameters:
            weights = list(parameters.values())
            optimizer = torch.optim.AdamW(weights, lr=self.rate, weight_decay=0.0)
            ema = {name: p.detach().clone() for name, p in parameters.items()}

            def update_ema() -> None:
                with torch.no_grad():
                    for name, p in parameters.items():
                        ema[name].lerp_(p, 0.1)

            while self.counter.passes - start < self.budget:
                prompt = prompts[order[number % len(order)]]
                cond = model.encode([prompt]).select([0] * IMAGES)
                seeds = [seed * 1_000_003 + number * IMAGES + i for i in range(IMAGES)]
                trajectories = flow_grpo.sample(model, cond, seeds, shape, settings)
                images = to_pil(model.decode(trajectories.points[-1]))
                scores = np.asarray(self.reward.score(images, [prompt] * IMAGES).values)
                flow_grpo.update(
                    model, optimizer, weights, trajectories, torch.from_numpy(scores), settings,
                    update_ema,
                )  # fmt: skip
                number += 1
        path = folder / "lora.safetensors"
        write_tensors(path, files.to_file_keys(LoRAWeights(ema, ADAPTER.rank, ADAPTER.alpha)))
        return AlignedLoRA(path, folder, number, model.identity)
