"""The path from latents to noise, and the error along it."""

import itertools

import pytest
import torch

from gdro_comfy.models import flow


def test_the_path_starts_at_the_image_and_ends_at_the_noise():
    x0, noise = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    assert torch.equal(flow.interpolate(x0, noise, 0.0), x0)
    assert torch.equal(flow.interpolate(x0, noise, 1.0), noise)


def test_each_item_may_have_its_own_sigma():
    x0, noise = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    mixed = flow.interpolate(x0, noise, torch.tensor([0.0, 0.25, 1.0]))
    assert mixed[:, 0, 0].tolist() == [0.0, 0.25, 1.0]


def test_the_velocity_is_the_derivative_of_the_path():
    x0, noise = torch.randn(2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64)
    step = 1e-6
    slope = (flow.interpolate(x0, noise, 0.4 + step) - flow.interpolate(x0, noise, 0.4)) / step
    assert torch.allclose(slope, flow.target_velocity(x0, noise), atol=1e-8)


def test_the_error_is_the_mean_square_of_each_item():
    prediction = torch.tensor([[[1.0, 2.0]], [[0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.0]], [[0.0, 4.0]]])
    assert flow.velocity_error(prediction, target).tolist() == [2.5, 8.0]


def test_the_error_of_half_precision_is_float32():
    error = flow.velocity_error(torch.ones(2, 8).bfloat16(), torch.zeros(2, 8).bfloat16())
    assert error.dtype == torch.float32


def test_the_implicit_reward_is_positive_where_the_fit_is_better():
    s = flow.implicit_reward(torch.tensor([0.1, 0.3]), torch.tensor([0.2, 0.2]), 10.0)
    assert s.tolist() == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize("sampler", flow.SIGMA_SAMPLERS)
def test_sigmas_stay_in_their_range_and_depend_on_the_seed(sampler):
    sigma, again = (
        flow.sample_sigma(4000, torch.Generator().manual_seed(3), sampler, 0.4, 0.9)
        for _ in range(2)
    )
    assert torch.equal(sigma, again)
    assert sigma.min() >= 0.4
    assert sigma.max() <= 0.9
    assert sigma.mean() == pytest.approx(0.65, abs=0.01)


def test_logit_normal_prefers_the_middle():
    g = torch.Generator().manual_seed(0)
    sigma = flow.sample_sigma(4000, g, "logit-normal")
    # 68 % of a standard normal lie within +-1, that is 68 % of the sigmas between 0.269 and 0.731.
    middle = ((sigma > 0.2689) & (sigma < 0.7311)).float().mean()
    assert middle == pytest.approx(0.683, abs=0.03)


@pytest.mark.parametrize("sampler", ["uniform", "logit-normal"])
def test_strata_give_one_draw_to_each_equal_part_of_the_distribution(sampler):
    generator = torch.Generator().manual_seed(0)
    sigma = flow.sample_sigma(4000, generator, sampler, 0.2, 1.0, strata=4).reshape(-1, 4)
    # The quartiles of a logit-normal are at sigmoid(+-0.6745) and 0.5.
    inner = [0.25, 0.5, 0.75] if sampler == "uniform" else [0.33748, 0.5, 0.66252]
    edges = [0.2, *(0.2 + 0.8 * quartile for quartile in inner), 1.0]
    for column, (low, high) in enumerate(itertools.pairwise(edges)):
        part = sigma[:, column]
        assert low - 1e-4 <= part.min() < part.max() <= high + 1e-4
        assert part.max() - part.min() > 0.9 * (high - low) or sampler == "logit-normal"


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ValueError, match="logit-normal"):
        flow.sample_sigma(1, torch.Generator(), "cosine")
