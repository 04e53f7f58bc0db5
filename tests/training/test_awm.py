"""Advantage-weighted matching by hand, and the older policy that it and DiffusionNFT share."""

import math

import pytest
import torch
from recording_host import RecordingHost
from small_reward import RednessReward
from small_training import assert_same_lora, config, scored

from gdro_comfy.data.files import read_tensors
from gdro_comfy.progress import Cancelled
from gdro_comfy.training.awm import AWM, awm_loss, matching_likelihood
from gdro_comfy.training.nft import NFT
from gdro_comfy.training.objectives import Signals
from gdro_comfy.training.online import Rounds
from gdro_comfy.training.train import train


def doubles(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_likelihood_by_hand():
    errors, sigma = doubles([0.0, 0.0625], [1.0, 16.0]), doubles([0.5], [0.8])
    found = matching_likelihood(errors, sigma)
    # The fourth roots are 0, 1/2, 1 and 2; less that of 1e-10, which is 10^-2.5.
    least = 10**-2.5
    expected = [-2 * (root - least) for root in (least, 0.5)]
    assert found[0].tolist() == pytest.approx(expected, rel=1e-6)
    assert found[1].tolist() == pytest.approx([-3.2 * (1 - least), -3.2 * (2 - least)], rel=1e-6)
    assert matching_likelihood(errors, sigma, 1.0)[1].tolist() == pytest.approx([-0.8, -12.8])


def test_policy_loss_and_its_clip_by_hand():
    now = doubles([math.log(3.0), math.log(3.0), math.log(0.5)]).requires_grad_()
    advantages = doubles([0.4, -0.4, 1.0])
    loss, stats = awm_loss(now, torch.zeros(1, 3).double(), advantages, clip=1.0)
    # Ratio 3 is clipped to 2 where A > 0; where A < 0, -A ratio = 1.2 is the larger and stays.
    assert loss.item() == pytest.approx((-0.4 * 2 + 0.4 * 3 - 1.0 * 0.5) / 3)
    assert stats.ratio.item() == pytest.approx(6.5 / 3)
    assert stats.clipped.item() == pytest.approx(1 / 3)
    loss.backward()
    assert now.grad[0].tolist() == pytest.approx([0.0, 0.4, -0.5 / 3])


def test_whole_loss_by_hand():
    errors = doubles([0.0625, 1.0]).requires_grad_()
    old_drift, drift = doubles([0.02, 0.04]).requires_grad_(), doubles([0.3, 0.5]).requires_grad_()
    signals = Signals(
        errors, doubles([0.1, 0.1]), drift, doubles([1.0, 1.0]), sigma=doubles([0.5]),
        old_drift=old_drift,
    )  # fmt: skip
    objective = AWM(kl=0.01, old_kl=2.0)
    targets = objective.targets(doubles([1.0, 0.0]))
    a = 0.5 / (0.5 + 1e-4) / 5
    assert targets[0].tolist() == pytest.approx([a, -a])
    found = objective.loss(signals, targets)
    # logp - logp_old = -(.5 / .25) (1/2 - 1) = 1 and 0: ratios e, clipped to 2, and 1.
    expected = (-a * 2 + a * 1) / 2 + 2.0 * 0.03 + 0.01 * 0.4
    assert found.loss.item() == pytest.approx(expected, rel=1e-6)
    found.loss.backward()
    assert old_drift.grad[0].tolist() == pytest.approx([1.0, 1.0])
    assert drift.grad[0].tolist() == pytest.approx([0.005, 0.005])
    # d ratio / d e = -ratio sigma e^(p - 1): of the second image, .5; the first is clipped.
    assert errors.grad[0].tolist() == pytest.approx([0.0, -a * 0.5 / 2], abs=1e-9)


def test_decays_are_the_papers():
    assert [NFT().old_decay(step) for step in (0, 100, 900)] == pytest.approx([0, 0.1, 0.5])
    assert [AWM().old_decay(step) for step in (0, 100, 900)] == pytest.approx([0, 0.1, 0.3])


ROUNDS = Rounds(rounds=2, prompts_per_round=2, sampling_steps=2, weights="old")


def in_rounds(host, model, rollout, objective):
    settings = config(steps=4, checkpoint_every=1)
    return train(host, model, rollout, objective, settings, ROUNDS, RednessReward())


@pytest.mark.parametrize("objective", [NFT(), AWM(noise_levels=2)], ids=["nft", "awm"])
def test_the_older_policy_moves_at_the_end_of_each_round(bundled_model, host, objective):
    rollout, states = scored(host, bundled_model), []

    def emit(event, values):
        if event == "train_step" and values["step"] > 1:
            (path,) = (rollout.run.folder / "train").glob("*/checkpoint.safetensors")
            states.append(read_tensors(path))

    host.emit = emit
    result = in_rounds(host, bundled_model, rollout, objective)
    first, second, third = states
    last = read_tensors(result.folder / "checkpoint.safetensors")
    # Some layers do not learn: the last block's query of the text reaches no pixel.
    weights = [key for key in first if key.startswith("weight.") and key.endswith("lora_B")]
    weight = max(weights, key=lambda key: float(first[key].abs().max()))
    name = weight.replace("weight.", "old.")
    assert first[weight].abs().max() > 0
    assert first[name].abs().max() == 0
    assert torch.allclose(second[name], (1 - 0.002) * second[weight], rtol=1e-5)
    assert torch.equal(third[name], second[name])
    moved = torch.lerp(second[name], last[weight], 1 - 0.004)
    assert torch.allclose(last[name], moved, rtol=1e-5, atol=1e-9)
    # With two steps a round, only the second of each moves away from the policy of the round.
    drifts = [row["old_drift"] for row in result.history()]
    assert drifts[0] == 0
    assert drifts[1] > 0


def test_a_cancelled_training_goes_on_to_the_same_lora(bundled_model, tmp_path):
    whole_host = RecordingHost(tmp_path / "whole")
    objective = NFT()
    whole = in_rounds(whole_host, bundled_model, scored(whole_host, bundled_model), objective)
    groups = scored(RecordingHost(tmp_path / "parts"), bundled_model)
    parts, stops = None, 0
    while parts is None:
        try:
            host = RecordingHost(tmp_path / "parts", cancel_after=9 * (stops + 1))
            parts = in_rounds(host, bundled_model, groups, objective)
        except Cancelled:
            stops += 1
    assert stops >= 2
    assert_same_lora(whole, parts)
