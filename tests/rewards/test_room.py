"""Rewards whose networks do not fit on the device beside the model in training."""

import contextlib

import numpy as np
import pytest
import torch
from PIL import Image
from small_reward import RednessReward

from gdro_comfy.data.prompts import Prompt
from gdro_comfy.errors import InputError
from gdro_comfy.rewards.base import RewardError, RewardResult
from gdro_comfy.rewards.room import active_with_room
from gdro_comfy.rollouts.scoring import score_images

IMAGES = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in range(0, 250, 50)]
PROMPTS = [Prompt(f"a red {number}") for number in range(5)]


class Large(RednessReward):
    """Needs room to be loaded, and then for each image."""

    def __init__(self, room, weights=0):
        super().__init__()
        self.room, self.weights, self.calls = room, weights, []

    def free(self):
        self.room += 10

    @contextlib.contextmanager
    def active(self):
        if self.room < self.weights:
            raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    def score(self, images, prompts, check_cancelled):
        self.calls.append(len(images))
        if len(images) > self.room - self.weights:
            raise RuntimeError("MPS backend out of memory")
        result = super().score(images, prompts, check_cancelled)
        details = [{"prompt": prompt.text} for prompt in prompts]
        return RewardResult(result.values, details, None)


@pytest.fixture(scope="module")
def expected():
    return RednessReward().score(IMAGES, PROMPTS, lambda: None).values


def test_fewer_images_at_once_give_the_same_scores(host, expected):
    reward = Large(room=2)
    np.testing.assert_array_equal(score_images(host, reward, IMAGES, PROMPTS), expected)
    assert reward.calls == [5, 2, 2, 1]


def test_room_is_made_before_one_image_is_refused(host, expected):
    reward = Large(room=0)
    scores = score_images(host, reward, IMAGES, PROMPTS, reward.free)
    np.testing.assert_array_equal(scores, expected)
    assert reward.room == 10
    with pytest.raises(InputError, match="not even one image fits .*redness"):
        score_images(host, Large(room=0), IMAGES, PROMPTS)
    made = []
    with pytest.raises(InputError, match="not even one image fits"):
        score_images(host, Large(room=0), IMAGES, PROMPTS, lambda: made.append("room"))
    assert made == ["room"]


def test_room_is_made_for_networks_that_do_not_load(host, expected):
    reward = Large(room=3, weights=7)
    np.testing.assert_array_equal(
        score_images(host, reward, IMAGES, PROMPTS, reward.free), expected
    )
    with pytest.raises(torch.OutOfMemoryError), active_with_room(Large(3, 7), None):
        pass


def test_what_a_judges_server_says_of_its_memory_is_its_own(host):
    class Judge(RednessReward):
        calls = 0

        def score(self, images, prompts, check_cancelled):
            self.calls += 1
            raise RewardError("the server says: CUDA out of memory")

    judge = Judge()
    with pytest.raises(RewardError, match="the server says"):
        score_images(host, judge, IMAGES, PROMPTS, lambda: pytest.fail("no room is needed"))
    assert judge.calls == 1
