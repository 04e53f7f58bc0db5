"""Which images of a group train together."""

import numpy as np
import pytest
import torch

from gdro_comfy.errors import InputError
from gdro_comfy.training.group_sampling import draw, teaching_groups


def test_equal_rewards_teach_nothing():
    rewards = np.array([[0.5, 0.5], [0.1, 0.9], [1.0, 1.0]], np.float32)
    assert teaching_groups(rewards) == [1]


def test_all_equal_everywhere_is_refused_with_a_way_out():
    with pytest.raises(InputError, match=r"every image has the same reward.*choose a reward"):
        teaching_groups(np.ones((3, 4), np.float32))


def test_best_and_worst_takes_both_ends():
    rewards = torch.tensor([0.3, 0.9, 0.1, 0.5, 0.8, 0.0, 0.4])
    for seed in range(5):
        picked = draw(rewards, 4, "best and worst", torch.Generator().manual_seed(seed))
        assert sorted(picked.tolist()) == [1, 2, 4, 5]
    odd = draw(rewards, 5, "best and worst", torch.Generator().manual_seed(0))
    assert sorted(odd.tolist()) == [1, 2, 3, 4, 5]


def test_whole_group_comes_once_each():
    picked = draw(torch.rand(6), 6, "best and worst", torch.Generator().manual_seed(0))
    assert sorted(picked.tolist()) == list(range(6))


def test_random_draws_differ_by_seed_and_avoid_groups_without_a_difference():
    rewards = torch.tensor([1.0] * 6 + [0.0, 0.2])
    draws = [draw(rewards, 3, "random", torch.Generator().manual_seed(s)) for s in range(40)]
    assert len({tuple(d.tolist()) for d in draws}) > 20
    alike = sum(rewards[d].max() == rewards[d].min() for d in draws)
    assert alike <= 2
