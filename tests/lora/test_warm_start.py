"""Training on from a LoRA: its weights, the base as reference, and what is refused."""

import dataclasses

import pytest
import torch
from recording_host import RecordingHost
from safetensors.torch import save_file
from small_training import ADAPTER, OBJECTIVE, assert_same_lora, config, scored

from gdro_comfy.data import aligned
from gdro_comfy.errors import InputError
from gdro_comfy.lora import files
from gdro_comfy.progress import Cancelled
from gdro_comfy.training.train import train


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


@pytest.fixture
def first(bundled_model, host, rollout):
    return train(host, bundled_model, rollout, OBJECTIVE, config(steps=6, ema_decay=0.0))


def go_on(host, model, rollout, start, **changes):
    return train(host, model, rollout, OBJECTIVE, config(**changes), start_from=start)


def test_it_begins_with_the_loras_weights_and_the_base_as_reference(
    bundled_model, host, rollout, first
):
    fresh = train(host, bundled_model, rollout, OBJECTIVE, config(seed=5)).history()[0]
    [row] = go_on(host, bundled_model, rollout, first, seed=5, steps=1).history()
    assert row["reference_error"] == fresh["reference_error"]
    assert fresh["drift"] == 0
    assert row["drift"] > 1e-6
    a, b = (
        go_on(host, bundled_model, rollout, first, seed=5, steps=1, learning_rate=rate)
        for rate in (1e-12, 1e-3)
    )
    assert all(torch.allclose(t, first.tensors()[k], atol=1e-9) for k, t in a.tensors().items())
    assert a.path != b.path != first.path


def test_another_alpha_changes_the_scale_and_not_the_model(bundled_model, host, rollout, first):
    same, other = (
        go_on(host, bundled_model, rollout, first, steps=1, adapter=adapter).history()[0]
        for adapter in (ADAPTER, dataclasses.replace(ADAPTER, alpha=16.0))
    )
    assert other["error"] == pytest.approx(same["error"], rel=1e-6)


def test_a_cancelled_one_goes_on_bit_for_bit(bundled_model, host, rollout, first, tmp_path):
    whole = go_on(host, bundled_model, rollout, first)
    elsewhere = RecordingHost(tmp_path / "elsewhere", cancel_after=None)
    again = scored(elsewhere, bundled_model)
    elsewhere.cancel_after = elsewhere.checks + 12
    with pytest.raises(Cancelled):
        go_on(elsewhere, bundled_model, again, first)
    elsewhere.cancel_after = None
    assert_same_lora(go_on(elsewhere, bundled_model, again, first), whole)


def test_a_file_is_the_same_start_as_the_training_itself(bundled_model, host, rollout, first):
    loaded = aligned.from_file(first.path, host.output_dir)
    assert (loaded.folder, loaded.model, loaded.steps) == (first.folder, first.model, 6)
    direct = go_on(host, bundled_model, rollout, first)
    assert go_on(host, bundled_model, rollout, loaded).path == direct.path


def test_the_bundled_lora_is_one(host, bundled_model):
    [path] = files.BUNDLED.values()
    assert aligned.from_file(path, host.output_dir).model == bundled_model.identity


def test_what_does_not_agree_is_refused(bundled_model, host, rollout, first):
    for changes, message in (
        ({"rank": 8}, "rank: .* has rank 4, and here it is 8. Set rank to 4"),
        ({"target": "attention+mlp"}, r"changes other layers than attention\+mlp. Set target to attention\."),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            go_on(
                host, bundled_model, rollout, first, adapter=dataclasses.replace(ADAPTER, **changes)
            )
    other = dataclasses.replace(first, model={"pipeline": "other"})
    with pytest.raises(InputError, match="trained for another model"):
        go_on(host, bundled_model, rollout, other)


def test_a_lora_of_another_tool_is_refused(host, tmp_path):
    save_file({"x.lora_A.weight": torch.ones(2, 2)}, tmp_path / "style.safetensors")
    with pytest.raises(
        InputError, match=r"style\.safetensors is no LoRA that GDRO Train LoRA wrote"
    ):
        aligned.from_file(tmp_path / "style.safetensors", host.output_dir)
