"""DGPO's loss, piece by piece, against cases worked by hand and a plain float64 version of it."""

import math

import pytest
import torch

from gdro_comfy.training.losses import dgpo_loss, dpo_loss, group_advantages
from gdro_comfy.training.objectives import DGPO, DPO, Signals, old_policy_decay


def test_advantages_are_deviations_from_the_groups_mean():
    rewards = torch.tensor([[1.0, 0.0, 0.5, 0.5], [0.2, 0.2, 0.2, 0.6]], dtype=torch.float64)
    found = group_advantages(rewards)
    # First group: mean .5, deviation sqrt(.125); second: mean .3, deviation sqrt(.03).
    first = 0.5 / (math.sqrt(0.125) + 1e-4)
    second = 0.1 / (math.sqrt(0.03) + 1e-4)
    assert found[0].tolist() == pytest.approx([first, -first, 0, 0])
    assert found[1].tolist() == pytest.approx([-second, -second, -second, 3 * second])


def test_advantages_over_the_batch_leave_flat_groups_a_small_voice():
    rewards = torch.tensor([[1.0, 0.0], [0.51, 0.49]])
    whole = group_advantages(rewards, "batch")
    assert whole[0, 0] > 40 * whole[1, 0] > 0
    own = group_advantages(rewards, "group")
    assert own[1, 0] > 0.9 * own[0, 0]
    with pytest.raises(ValueError, match="scale"):
        group_advantages(rewards, "prompt")


def test_advantages_are_limited():
    rewards = torch.zeros(1, 64)
    rewards[0, 0] = 1.0
    assert group_advantages(rewards).max() == 5.0
    assert group_advantages(rewards, limit=2.0).max() == 2.0


def test_weight_of_a_group_by_hand():
    errors = torch.tensor([0.30, 0.10], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([0.20, 0.20], dtype=torch.float64)
    advantages = torch.tensor([1.0, -1.0], dtype=torch.float64)
    # The good image got worse and the bad one better: sum A beta d / k = 10 (.1 + .1) / 2 = 1.
    loss, stats = dgpo_loss(errors, reference, advantages, beta=10.0)
    weight = 1 / (1 + math.exp(-1.0))
    assert stats.weight.item() == pytest.approx(weight)
    assert loss.item() == pytest.approx(weight * (0.30 - 0.10) / 2)
    (gradient,) = torch.autograd.grad(loss, errors)
    assert gradient.tolist() == pytest.approx([weight / 2, -weight / 2])  # through e alone, not w


def test_a_group_that_obeys_already_weighs_little():
    advantages = torch.tensor([1.0, -1.0])
    reference = torch.tensor([0.2, 0.2])
    behind, _ = dgpo_loss(torch.tensor([0.3, 0.1]), reference, advantages, 100.0)
    _, ahead = dgpo_loss(torch.tensor([0.1, 0.3]), reference, advantages, 100.0)
    assert ahead.weight < 1e-4
    assert behind.isfinite()


def test_clip_takes_the_gradient_of_what_moved_far_enough():
    # ratio = exp(old - e): 1.02, .98, 1.02, .98 with a clip of .01.
    old = torch.full((4,), 0.2, dtype=torch.float64)
    errors = (old - torch.tensor([1.02, 0.98, 1.02, 0.98], dtype=torch.float64).log()).clone()
    errors.requires_grad_()
    advantages = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    loss, stats = dgpo_loss(errors, old, advantages, 100.0, old_errors=old, clip=0.01)
    (gradient,) = torch.autograd.grad(loss, errors)
    assert (gradient != 0).tolist() == [False, True, True, False]
    assert stats.clipped.item() == 0.5


def test_without_an_older_policy_nothing_is_clipped():
    errors = torch.rand(3, 4, requires_grad=True)
    loss, stats = dgpo_loss(errors, torch.rand(3, 4), torch.randn(3, 4), 100.0)
    (gradient,) = torch.autograd.grad(loss, errors)
    assert (gradient != 0).all()
    assert stats.clipped == 0


def slow_dgpo(errors, reference, drift, rewards, objective):
    """The whole loss again, one number at a time."""
    total, groups, k = 0.0, len(errors), len(errors[0])
    for g in range(groups):
        mean = sum(rewards[g]) / k
        deviation = math.sqrt(sum((r - mean) ** 2 for r in rewards[g]) / k)
        a = [max(-5.0, min(5.0, (r - mean) / (deviation + 1e-4))) for r in rewards[g]]
        inside = sum(
            x * objective.beta * (e - f) for x, e, f in zip(a, errors[g], reference[g], strict=True)
        )
        w = 1 / (1 + math.exp(-inside / k))
        for x, e, d in zip(a, errors[g], drift[g], strict=True):
            total += (w * x * e + objective.kl * d) / (groups * k)
    return total


def test_whole_loss_equals_the_slow_one_in_float64():
    torch.manual_seed(0)
    errors, reference, old, drift, rewards = (
        torch.rand(5, 6, dtype=torch.float64) * scale for scale in (0.3, 0.3, 0.3, 0.01, 1.0)
    )
    objective = DGPO(beta=100.0, kl=0.02, clip=0.01)
    found = objective.loss(Signals(errors, reference, drift, old), objective.targets(rewards))
    errors, reference, drift, rewards = (t.tolist() for t in (errors, reference, drift, rewards))
    slow = slow_dgpo(errors, reference, drift, rewards, objective)
    assert found.loss.item() == pytest.approx(slow, rel=1e-12)


def test_kl_pulls_towards_the_base():
    drift = torch.full((1, 2), 0.5, requires_grad=True)
    signals = Signals(torch.full((1, 2), 0.2), torch.full((1, 2), 0.2), drift)
    objective = DGPO(kl=0.1, clip=0.0)
    found = objective.loss(signals, objective.targets(torch.tensor([[1.0, 0.0]])))
    (gradient,) = torch.autograd.grad(found.loss, drift)
    assert gradient.flatten().tolist() == pytest.approx([0.05, 0.05])
    assert not objective.uses_old


def test_old_policy_follows_fast():
    assert [old_policy_decay(step) for step in (0, 100, 300, 5000)] == [0.0, 0.1, 0.3, 0.3]


def test_dpo_compares_the_best_with_the_worst():
    errors = torch.tensor([[0.30, 0.10], [0.15, 0.25]])
    reference = torch.full((2, 2), 0.2)
    rewards = torch.tensor([[0.0, 1.0], [0.9, 0.1]])  # unsorted: the second won, then the first
    found = DPO(beta=10.0).loss(Signals(errors, reference, torch.zeros(2, 2)), rewards)
    expected, _ = dpo_loss(torch.tensor([1.0, 0.5]), torch.tensor([-1.0, -0.5]))
    assert found.loss.item() == pytest.approx(expected.item())
    assert found.stats.accuracy == 1.0
