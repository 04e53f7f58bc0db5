"""The losses, by hand, against each other, and against finite differences."""

import math

import pytest
import torch

from gdro_comfy.training.losses import dpo_loss, gdro_loss, ranking_loss


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def by_definition(scores, rewards, temperature):
    """METHOD's sum, one term after the other, in Python floats."""
    order = sorted(range(len(scores)), key=lambda i: -rewards[i])
    s, r = [scores[i] for i in order], [rewards[i] for i in order]
    total = 0.0
    for i in range(len(s) - 1):
        weights = [math.exp((x - r[i]) / temperature) for x in r[i:]]
        q = [w / sum(weights) for w in weights]
        total += math.log(sum(math.exp(x) for x in s[i:]))
        total -= sum(a * b for a, b in zip(q, s[i:], strict=True))
    return total


def test_three_images_by_hand():
    # tau 0.5, rewards 1, 0.5, 0: the first choice has weights 1, 1/e, 1/e^2, the second 1, 1/e.
    e = math.e
    q1 = [1, 1 / e, 1 / e**2]
    q1 = [q / sum(q1) for q in q1]
    q2 = [1 / (1 + 1 / e), (1 / e) / (1 + 1 / e)]
    first = math.log(e**0.3 + e**-0.1 + e**0.2) - (q1[0] * 0.3 - q1[1] * 0.1 + q1[2] * 0.2)
    second = math.log(e**-0.1 + e**0.2) - (-q2[0] * 0.1 + q2[1] * 0.2)
    loss, _ = gdro_loss(f64([0.3, -0.1, 0.2]), f64([1.0, 0.5, 0.0]), 0.5)
    assert loss.item() == pytest.approx(first + second, abs=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.3, 2.0])
@pytest.mark.parametrize("k", [2, 3, 6, 16])
def test_equals_the_definition(k, temperature):
    g = torch.Generator().manual_seed(k)
    scores = torch.randn(4, k, generator=g, dtype=torch.float64)
    rewards = torch.rand(4, k, generator=g, dtype=torch.float64)
    loss, _ = gdro_loss(scores, rewards, temperature)
    expected = sum(
        by_definition(s, r, temperature)
        for s, r in zip(scores.tolist(), rewards.tolist(), strict=True)
    )
    assert loss.item() == pytest.approx(expected / 4, abs=1e-10)


def test_at_zero_scores_it_is_the_log_of_factorial():
    # The adapter just attached: every s is 0, and place i costs log of what remains.
    loss, _ = gdro_loss(torch.zeros(6), torch.rand(6), 0.05)
    assert loss.item() == pytest.approx(math.log(math.factorial(6)), rel=1e-6)


def test_order_of_the_images_does_not_matter():
    scores, rewards = torch.randn(6).double(), torch.rand(6).double()
    shuffled = torch.randperm(6)
    a, _ = gdro_loss(scores, rewards, 0.05)
    b, _ = gdro_loss(scores[shuffled], rewards[shuffled], 0.05)
    assert a.item() == pytest.approx(b.item(), abs=1e-12)


def test_two_images_at_temperature_zero_are_dpo():
    for winner, loser in [(0.7, -0.4), (-3.0, 2.0), (0.0, 0.0)]:
        expected = math.log1p(math.exp(-(winner - loser)))
        dpo, _ = dpo_loss(f64(winner), f64(loser))
        assert dpo.item() == pytest.approx(expected, abs=1e-12)
        for temperature in (0.0, 1e-4):
            gdro, _ = gdro_loss(f64([loser, winner]), f64([0.2, 0.9]), temperature)
            assert gdro.item() == pytest.approx(expected, abs=1e-6)


def test_small_temperature_is_plackett_luce():
    scores, rewards = f64([0.3, -1.0, 0.8, 0.1]), f64([0.1, 0.9, 0.4, 0.6])
    s = [-1.0, 0.1, 0.8, 0.3]
    expected = sum(math.log(sum(map(math.exp, s[i:]))) - s[i] for i in range(3))
    assert ranking_loss(scores, rewards)[0].item() == pytest.approx(expected, abs=1e-10)
    assert gdro_loss(scores, rewards, 1e-3)[0].item() == pytest.approx(expected, abs=1e-6)


def test_ties_share_their_place_at_temperature_zero():
    limit, _ = gdro_loss(f64([0.5, -0.5, 0.1]), f64([1.0, 1.0, 0.0]), 1e-4)
    exact, _ = ranking_loss(f64([0.5, -0.5, 0.1]), f64([1.0, 1.0, 0.0]))
    assert exact.item() == pytest.approx(limit.item(), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_constants_change_nothing(temperature):
    scores, rewards = torch.randn(3, 6).double(), torch.rand(3, 6).double()
    plain, _ = gdro_loss(scores, rewards, temperature)
    for shifted in (
        gdro_loss(scores + 37.0, rewards, temperature)[0],
        gdro_loss(scores, rewards - 5.0, temperature)[0],
    ):
        assert shifted.item() == pytest.approx(plain.item(), abs=1e-9)


@pytest.mark.parametrize("temperature", [0.0, 0.05, 0.5])
def test_gradients_agree_with_finite_differences(temperature):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(2, 5, generator=g, dtype=torch.float64, requires_grad=True)
    rewards = torch.rand(2, 5, generator=g, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: gdro_loss(s, rewards, temperature)[0], scores)


def test_the_worked_derivatives_of_the_method():
    # k 6, beta 12, s near 0: derivatives by the velocity errors, as METHOD works them out.
    errors = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    loss, _ = gdro_loss(-12 * errors, f64([1.0, 0.9, 0.7, 0.5, 0.2, 0.0]), 0.05)
    loss.backward()
    expected = [8.6, 8.8, 4.6, 0.8, -5.6, -17.2]
    assert errors.grad.tolist() == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_large_scores_stay_finite_and_exact(dtype):
    scores = torch.tensor([1e4, -1e4, 0.0, 1e4 - 1], dtype=dtype, requires_grad=True)
    rewards = torch.tensor([0.0, 1.0, 0.5, 0.2], dtype=dtype)
    loss, _ = gdro_loss(scores, rewards, 0.05)
    loss.backward()
    expected = gdro_loss(scores.detach().double(), rewards.double(), 0.05)[0].item()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    # Far below the best, the last pair still tells its order.
    low = torch.tensor([1e4, -1e4, -1e4 + 1], dtype=dtype)
    tail, _ = ranking_loss(low, torch.tensor([1.0, 0.5, 0.0], dtype=dtype))
    assert tail.item() == pytest.approx(math.log1p(math.e), rel=1e-4)


def test_dpo_is_stable():
    loss, _ = dpo_loss(torch.tensor([-1e4, 1e4]), torch.tensor([1e4, -1e4]))
    assert loss.item() == pytest.approx(1e4, rel=1e-6)


def test_half_precision_scores_are_lifted():
    loss, _ = gdro_loss(torch.zeros(4, dtype=torch.bfloat16), torch.rand(4), 0.05)
    assert loss.dtype == torch.float32


def test_stats_count_ordered_pairs():
    # Rewards fall; of the six pairs two are in the wrong order, one is tied.
    _, stats = gdro_loss(f64([3.0, 1.0, 2.0, 2.0]), f64([4.0, 3.0, 2.0, 1.0]), 1.0)
    assert stats.accuracy.item() == pytest.approx(3.5 / 6)
    assert stats.margin.item() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("scores", "rewards"),
    [
        (torch.zeros(3), torch.zeros(4)),
        (torch.zeros(1), torch.zeros(1)),
        (torch.zeros(2, 2, 2),) * 2,
    ],
)
def test_shapes_that_make_no_group_are_refused(scores, rewards):
    with pytest.raises(ValueError, match=r"group|\[k\]"):
        gdro_loss(scores, rewards, 0.05)


def test_negative_temperature_is_refused():
    with pytest.raises(ValueError, match="temperature"):
        gdro_loss(torch.zeros(2), torch.zeros(2), -0.1)
