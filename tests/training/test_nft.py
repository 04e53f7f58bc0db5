"""DiffusionNFT, piece by piece, against cases worked by hand and a plain version on whole latents."""

import math

import pytest
import torch
from small_training import config, scored

from gdro_comfy.data.conditioning import BatchedConditioning
from gdro_comfy.training.batches import GroupData
from gdro_comfy.training.nft import NFT, nft_loss, nft_rewards
from gdro_comfy.training.step import NoisyGroups, measure
from gdro_comfy.training.train import train


def test_rewards_become_optimality_by_the_deviation_of_the_whole_batch():
    rewards = torch.tensor([[1.0, 0.0], [0.6, 0.4]], dtype=torch.float64)
    found = nft_rewards(rewards)
    # Mean .5, deviation sqrt((.25 + .25 + .01 + .01) / 4); advantages over 10, from 1/2.
    deviation = math.sqrt(0.13) + 1e-4
    assert found[0].tolist() == pytest.approx([0.5 + 0.05 / deviation, 0.5 - 0.05 / deviation])
    assert found[1].tolist() == pytest.approx([0.5 + 0.01 / deviation, 0.5 - 0.01 / deviation])
    far = torch.zeros(1, 64)
    far[0, 0] = 1.0
    assert nft_rewards(far).max() == 1.0


def test_loss_of_one_image_by_hand():
    # One latent: u = 1, v = 0.5, v_old = 0.2, beta = 0.1: v+ = 0.23, v- = 0.17; sigma = 0.8.
    squares = torch.tensor([0.77**2, 0.83**2], dtype=torch.float64).reshape(2, 1, 1)
    distances = torch.tensor([0.77, 0.83], dtype=torch.float64).reshape(2, 1, 1)
    r, sigma = torch.full((1, 1), 0.9, dtype=torch.float64), torch.full((1, 1), 0.8)
    loss = nft_loss(squares, distances, r, sigma.double(), beta=0.1, scale=5.0)
    # mean((x0+ - x0)^2 / w+) = sigma^2 .77^2 / (sigma .77) = .8 * .77, and likewise .8 * .83.
    assert loss.item() == pytest.approx(5 * (0.9 * 0.8 * 0.77 + 0.1 * 0.8 * 0.83) / 0.1)


def test_weights_have_no_gradient_and_a_floor():
    squares = torch.full((2, 1, 1), 0.25, dtype=torch.float64, requires_grad=True)
    distances = torch.full((2, 1, 1), 0.5, dtype=torch.float64, requires_grad=True)
    r = torch.full((1, 1), 1.0, dtype=torch.float64)
    loss = nft_loss(squares, distances, r, torch.ones(1, 1).double(), beta=1.0, scale=5.0)
    loss.backward()
    assert distances.grad is None
    assert squares.grad.flatten().tolist() == pytest.approx([5 / 0.5, 0.0])
    floor = nft_loss(squares, distances * 0, r, torch.ones(1, 1).double(), beta=1.0, scale=5.0)
    assert floor.item() == pytest.approx(5 * 0.25 / 1e-5)


class Scaled:
    """A network whose velocity is ``factor * x``; the factor is 0.3 off, 0.6 old and trained otherwise."""

    def __init__(self) -> None:
        self.trained = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
        self.now = self.trained

    def velocity(self, x, sigma, cond):
        return self.now * x

    def using(self, factor):
        model = self

        class Context:
            def __enter__(self):
                model.now = factor

            def __exit__(self, *error):
                model.now = model.trained

        return Context()

    def reference(self):
        return self.using(torch.tensor(0.3, dtype=torch.float64))

    def old(self):
        return self.using(torch.tensor(0.6, dtype=torch.float64))


def slow_nft(x0, noise, sigma, rewards, factors, beta, kl):
    """The paper's loss again, on whole latents in x0, image by image."""
    now, old, reference = factors
    deviation = rewards.flatten().std(correction=0) + 1e-4
    total = 0.0
    for g in range(len(x0)):
        for i in range(x0.shape[1]):
            a = (rewards[g, i] - rewards[g].mean()) / deviation
            r = (a.clamp(-5, 5) / 5 / 2 + 0.5).clamp(0, 1)
            t, clean = sigma[g], x0[g, i]
            x_t = (1 - t) * clean + t * noise[g, i]
            v, v_old, v_ref = now * x_t, old * x_t, reference * x_t
            positive = beta * v + (1 - beta) * v_old
            negative = (1 + beta) * v_old - beta * v
            terms = []
            for mixed in (positive, negative):
                estimate = x_t - t * mixed
                weight = (estimate - clean).abs().mean().clamp(min=1e-5).detach()
                terms.append(((estimate - clean).pow(2) / weight).mean())
            total = total + 5 * (r * terms[0] + (1 - r) * terms[1]) / beta
            total = total + kl * (v - v_ref).pow(2).mean()
    return total / (x0.shape[0] * x0.shape[1])


@pytest.mark.parametrize("images_at_once", [3, 12])
def test_loss_and_gradient_are_those_of_the_formulas_on_whole_latents(images_at_once):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x0, noise = random(3, 4, 2, 3, 3), random(3, 4, 2, 3, 3)
    sigma, rewards = torch.tensor([0.2, 0.6, 0.95], dtype=torch.float64), random(3, 4)
    model, objective = Scaled(), NFT(beta=0.3, kl=0.7)
    cond = BatchedConditioning({"prompt": torch.zeros(12, 1)})
    level = sigma.repeat_interleave(4)
    flat_x0, flat_noise = x0.flatten(0, 1), noise.flatten(0, 1)
    shaped = level.reshape(-1, 1, 1, 1)
    mixed = (1 - shaped) * flat_x0 + shaped * flat_noise
    groups = NoisyGroups(mixed, level, flat_noise - flat_x0, cond, 4)
    signals, backward = measure(
        model, groups, images_at_once, old_policy=model.old(), with_old_drift=True,
        mixtures=objective.mixtures,
    )  # fmt: skip
    found = objective.loss(signals, objective.targets(rewards))
    backward(found.loss)
    again = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    slow = slow_nft(x0, noise, sigma, rewards, (again, 0.6, 0.3), 0.3, 0.7)
    slow.backward()
    assert found.loss.item() == pytest.approx(slow.item(), rel=1e-9)
    assert model.trained.grad.item() == pytest.approx(again.grad.item(), rel=1e-9)


def test_the_errors_of_the_mixtures_are_those_of_the_identity():
    # METHOD: |v+ - u|^2 = b e + (1 - b) e_old - b (1 - b) d, and |v- - u|^2 with -b for b.
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    target = torch.randn(4, 2, 3, 3, generator=generator, dtype=torch.float64)
    model, cond = Scaled(), BatchedConditioning({"prompt": torch.zeros(4, 1)})
    groups = NoisyGroups(x, torch.full((4,), 0.5).double(), target, cond, 4)
    signals, _ = measure(
        model, groups, 4, old_policy=model.old(), with_old_drift=True, mixtures=(0.3, -0.3)
    )
    for b, square in zip((0.3, -0.3), signals.mixed_squares, strict=True):
        expected = b * signals.errors + (1 - b) * signals.old - b * (1 - b) * signals.old_drift
        assert torch.allclose(square, expected, rtol=1e-10)


def test_the_images_of_a_group_have_noise_of_their_own_at_a_shared_level():
    data = GroupData(
        torch.zeros(3, 4, 2, 2, 2),
        torch.arange(12.0).reshape(3, 4),
        BatchedConditioning({"prompt": torch.zeros(3, 1)}),
    )
    batch = data.batch(0, 0, 2, NFT(noise_levels=3))
    assert batch.sigma.shape == (6,)
    assert batch.noise.shape == (6, 4, 2, 2, 2)
    flat = batch.noise.flatten(2).reshape(24, -1)
    assert len(torch.unique(flat, dim=0)) == 24


@pytest.mark.long
def test_nft_learns_to_prefer_the_better_images(bundled_model, host):
    rollout = scored(host, bundled_model)
    settings = config(steps=10, groups_per_step=4, learning_rate=5e-3)
    rows = train(host, bundled_model, rollout, NFT(beta=0.5), settings).history()
    assert rows[0]["old_drift"] == 0
    assert sum(row["accuracy"] for row in rows[-5:]) / 5 > 0.6
    assert rows[-1]["old_drift"] > 0
