"""Fixed draws of noise: the base is run once for each, and nothing else changes."""

import pytest
import torch
from recording_host import RecordingHost
from small_training import OBJECTIVE, assert_same_lora, config, scored

from gdro_comfy.errors import InputError
from gdro_comfy.progress import Cancelled
from gdro_comfy.training.objectives import DGPO
from gdro_comfy.training.online import Rounds
from gdro_comfy.training.reference_cache import ReferenceCache
from gdro_comfy.training.train import train

# Four groups, two a step: each comes three times in six steps, at one of two draws.
DRAWS = {"reference_draws": 2, "steps": 12}


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


@pytest.fixture
def base_images(bundled_model, monkeypatch):
    """How many images went through the base, without gradients."""
    seen = []
    velocity = bundled_model.velocity

    def counted(x, sigma, cond):
        if not torch.is_grad_enabled():
            seen.append(len(x))
        return velocity(x, sigma, cond)

    monkeypatch.setattr(bundled_model, "velocity", counted)
    return seen


def run(host, model, rollout, **changes):
    return train(host, model, rollout, OBJECTIVE, config(**{**DRAWS, **changes}))


def test_the_loss_is_that_of_computing_the_reference_again(
    bundled_model, host, rollout, base_images, monkeypatch, tmp_path
):
    kept = run(host, bundled_model, rollout)
    with_bank = sum(base_images)
    base_images.clear()
    monkeypatch.setattr(
        ReferenceCache, "get", lambda self, batch: torch.full_like(batch.rewards, torch.nan)
    )
    elsewhere = RecordingHost(tmp_path / "elsewhere")
    again = scored(elsewhere, bundled_model)
    base_images.clear()
    anew = run(elsewhere, bundled_model, again)
    assert sum(base_images) == 12 * 2 * 3
    assert with_bank < 0.7 * sum(base_images)
    found = [row["reference_kept"] for row in kept.history()]
    assert found[0] == 0
    assert found[-1] > 0.5
    for one, other in zip(kept.history(), anew.history(), strict=True):
        for name in ("loss", "error", "reference_error"):
            assert one[name] == pytest.approx(other[name], rel=1e-5)


def test_a_group_has_its_draws_in_turn(bundled_model, host, rollout):
    from gdro_comfy.training import online

    data = online.first_round(bundled_model, rollout, rollout.scores(), 3)
    count = len(data.rewards)
    sigmas = {}
    for step in range(2 * count):
        batch = data.batch(0, step, 2, OBJECTIVE, fixed_draws=2)
        for group, draw, sigma in zip(
            batch.groups.tolist(), batch.draws.tolist(), batch.sigma.tolist(), strict=True
        ):
            sigmas.setdefault((group, draw), set()).add(sigma)
    assert len(sigmas) == 2 * count
    assert all(len(found) == 1 for found in sigmas.values())
    assert len(set.union(*sigmas.values())) == 2 * count


def test_a_cancelled_training_goes_on_bit_for_bit(bundled_model, host, rollout, tmp_path):
    whole = run(host, bundled_model, rollout)
    elsewhere = RecordingHost(tmp_path / "elsewhere")
    again = scored(elsewhere, bundled_model)
    elsewhere.cancel_after = elsewhere.checks + 25
    with pytest.raises(Cancelled):
        run(elsewhere, bundled_model, again)
    elsewhere.cancel_after = None
    found = run(elsewhere, bundled_model, again)
    assert_same_lora(found, whole)
    same = [[row["loss"] for row in one.history()] for one in (found, whole)]
    assert same[0] == same[1]


def test_where_nothing_can_be_kept_it_is_refused(bundled_model, host, rollout):
    with pytest.raises(InputError, match=r"reference_draws: .*Set it to 0"):
        train(host, bundled_model, rollout, DGPO(), config(**DRAWS))
    with pytest.raises(InputError, match=r"reference_draws: .*in one round"):
        train(host, bundled_model, rollout, OBJECTIVE, config(**DRAWS), Rounds(rounds=2), object())
