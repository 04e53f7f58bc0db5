"""When a reward counts as fooled: simulated trainings, healthy and hacked."""

import numpy as np
import pytest

from gdro_comfy.rewards.guard import PromptScores, corrected_score, is_fooled
from gdro_comfy.rewards.student_t import is_above_zero, t_probability, t_quantile

LENGTH = 20
PATIENCE = 2
LEARNT = 0.3 + 0.2 * (1 - np.exp(-np.arange(LENGTH) / 6))
"""A mean reward that rises and levels off."""

HEALTHY = {
    "nothing changes": (np.full(LENGTH, 0.4), np.full(LENGTH, 4.0)),
    "the reward rises": (LEARNT, np.full(LENGTH, 4.0)),
    "the reward rises and the guard stays at 3": (LEARNT, np.full(LENGTH, 3.0)),
    "the reward rises and the guard stays below 3": (LEARNT, np.full(LENGTH, 2.7)),
    "the guard falls as far as the reward pays for": (LEARNT, 3 + 0.35 / LEARNT),
}
"""Means of reward and guard at each measurement."""

# benchmarks/RESULTS.md, "A reward that is fooled": the first three measurements.
HACK = np.array([0.268, 0.318, 0.333]), np.array([2.30, 1.59, 1.33])


def simulated(means, prompts, rng, grid=None):
    """One training: prompts of unequal difficulty, measured with noise as large as in the benchmark.

    There, base and aligned differ between prompts by 0.06 in the reward and by 0.7 in the guard.
    ``grid`` rounds both to that many steps of their range, as composition rewards do.
    """
    easy, sound = rng.normal(0, 0.1, prompts), rng.normal(0, 0.5, prompts)
    history = []
    for mean_reward, mean_guard in zip(*means, strict=True):
        reward = np.clip(mean_reward + easy + rng.normal(0, 0.04, prompts), 0, 1)
        guard = np.clip(mean_guard + sound + rng.normal(0, 0.5, prompts), 1, 5)
        if grid:
            reward = np.round(reward * grid) / grid
            guard = 1 + np.round((guard - 1) / 4 * grid) / grid * 4
        history.append(PromptScores(reward, guard, corrected_score(reward, guard)))
    return history


def stopped_at(history):
    """The measurement, counted from 0, after which the training stops; None if it goes through."""
    scores = [m.corrected.mean() for m in history]
    for last in range(len(history)):
        best = int(np.argmax(scores[: last + 1]))
        if is_fooled(history[best], history[best + 1 : last + 1], PATIENCE):
            return last
    return None


@pytest.mark.parametrize("grid", [None, 4], ids=["fine scores", "coarse scores"])
@pytest.mark.parametrize("prompts", [2, 8, 32])
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_training_is_stopped_in_fewer_than_5_percent(name, prompts, grid):
    rng = np.random.default_rng(1)
    runs = [stopped_at(simulated(HEALTHY[name], prompts, rng, grid)) for _ in range(200)]
    assert sum(stop is not None for stop in runs) < 0.05 * len(runs)


def test_a_hack_is_caught_within_two_measurements_of_its_onset():
    rng = np.random.default_rng(2)
    from_the_start = [stopped_at(simulated(HACK, 32, rng)) for _ in range(200)]
    assert from_the_start.count(2) >= 0.95 * 200
    flat = [np.concatenate([np.full(4, m[0]), m[1:]]) for m in HACK]
    later = [stopped_at(simulated(flat, 32, rng)) for _ in range(200)]
    assert later.count(5) >= 0.9 * 200


def test_quantiles_are_those_of_the_tables():
    # Abramowitz and Stegun, table 26.10.
    table = {(0.975, 1): 12.706, (0.975, 2): 4.303, (0.975, 7): 2.365, (0.995, 30): 2.75}
    for (probability, freedom), expected in table.items():
        assert t_quantile(probability, freedom) == pytest.approx(expected, abs=5e-4)
        assert t_probability(t_quantile(probability, freedom), freedom) == pytest.approx(
            probability
        )
    assert t_quantile(0.975, 100_000) == pytest.approx(1.96, abs=1e-3)
    assert t_quantile(0.5, 3) == pytest.approx(0, abs=1e-9)
    for bad in ((0.4, 3), (1.0, 3), (0.9, 0)):
        with pytest.raises(ValueError, match="no quantile"):
            t_quantile(*bad)


def test_one_difference_shows_nothing():
    assert not is_above_zero(np.array([0.5]), 0.9)
    assert is_above_zero(np.array([0.5, 0.5]), 0.9)
    assert not is_above_zero(np.zeros(8), 0.9)
