"""The interval of the gain: it holds its 95 %, or says that it cannot."""

import numpy as np
import pytest

from gdro_comfy.evaluation.statistics import Comparison, compare, t_interval

RUNS = 800


def normal(rng, n):
    return rng.normal(0.05, 0.1, n), 0.05


def skewed(rng, n):
    return (
        rng.beta(0.7, 1, (n, 2)).mean(1) - rng.beta(0.5, 1, (n, 2)).mean(1),
        0.7 / 1.7 - 0.5 / 1.5,
    )


def coarse(rng, n):
    return (rng.binomial(12, 0.45, n) - rng.binomial(12, 0.35, n)) / 12, 0.1


def yes_or_no(rng, n):
    return rng.binomial(1, 0.45, n) - 1.0 * rng.binomial(1, 0.3, n), 0.15


def nearly_perfect(rng, n):
    return (rng.binomial(2, 0.95, n) - rng.binomial(2, 0.85, n)) / 2, 0.1


def seldom(rng, n):
    return (rng.random(n) < 0.15) * rng.choice([0.25, 0.5], n), 0.15 * 0.375


@pytest.mark.parametrize("prompts", [2, 4, 8, 16, 48])
@pytest.mark.parametrize("gains", [normal, skewed, coarse, yes_or_no, nearly_perfect, seldom])
def test_a_printed_interval_misses_in_5_percent_at_most(gains, prompts):
    rng, missed, printed = np.random.default_rng(3), 0, 0
    for _ in range(RUNS):
        differences, truth = gains(rng, prompts)
        found = compare("x", np.zeros((prompts, 1)), differences[:, None])
        if found.has_interval:
            printed += 1
            missed += not found.low - 1e-9 <= truth <= found.high + 1e-9
    assert missed <= 0.065 * RUNS  # 0.05, and two standard errors of this simulation
    if prompts < 8:
        assert not printed
    elif gains in (normal, skewed, coarse):
        assert printed >= 0.9 * RUNS


def test_says_in_words_that_there_is_no_interval():
    few = compare("x", np.zeros((7, 1)), np.arange(1.0, 8.0)[:, None])
    assert "95 % interval none: needs 8 prompts;" in few.table()
    assert not few.rose
    one = np.zeros((8, 1))
    one[0] = 1
    assert "none: too few prompts make the gain" in compare("x", np.zeros((8, 1)), one).table()
    enough = compare("x", np.zeros((8, 1)), np.arange(1.0, 9.0)[:, None])
    assert "95 % interval +2.452 to +6.548;" in enough.table()  # 4.5 +- 2.365 * 2.449 / sqrt(8)


def test_results_of_earlier_versions_are_read():
    old = {
        "reward": "x", "prompts": 48, "images": 2, "base": 0.1, "base_error": 0.1, "aligned": 0.2,
        "aligned_error": 0.1, "gain": 0.1, "gain_error": 0.02, "low": 0.06, "high": 0.14,
        "win_rate": 0.8,
    }  # fmt: skip
    assert Comparison(**old).rose
    assert not Comparison(**{**old, "prompts": 4}).has_interval


def test_equal_gains_leave_no_doubt():
    assert t_interval(np.full(8, 0.25)) == (0.25, 0.25)
