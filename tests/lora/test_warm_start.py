"""A training that starts from a LoRA: its weights, the base as reference, and what is refused."""

import dataclasses

import pytest
import torch
from recording_host import RecordingHost
from safetensors.torch import save_file
from small_training import ADAPTER, OBJECTIVE, assert_same_lora, config, scored

from gdro_comfy.data import aligned
from gdro_comfy.errors import InputError
from gdro_comfy.lora import files
from gdro_comfy.lora.warm_start import WarmStart
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.progress import Cancelled
from gdro_comfy.training.train import train


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


@pytest.fixture
def first(bundled_model, host, rollout):
    return train(host, bundled_model, rollout, OBJECTIVE, config(steps=6, ema_decay=0.0))


def train_from(start, host, model, rollout, **changes):
    return train(host, model, rollout, OBJECTIVE, config(**changes), start_from=start)


def test_it_starts_with_the_weights_of_the_lora_and_the_base_as_reference(
    bundled_model, host, rollout, first
):
    fresh = train(host, bundled_model, rollout, OBJECTIVE, config(seed=5)).history()[0]
    [row] = train_from(first, host, bundled_model, rollout, seed=5, steps=1).history()
    assert row["reference_error"] == fresh["reference_error"]
    assert fresh["drift"] == 0
    assert row["drift"] > 1e-6
    a, b = (
        train_from(first, host, bundled_model, rollout, seed=5, steps=1, learning_rate=rate)
        for rate in (1e-12, 1e-3)
    )
    assert all(torch.allclose(t, first.tensors()[k], atol=1e-9) for k, t in a.tensors().items())
    assert a.path != b.path != first.path


def test_another_alpha_starts_with_the_same_update(bundled_model, host, rollout, first):
    same, other = (
        train_from(first, host, bundled_model, rollout, steps=1, adapter=adapter).history()[0]
        for adapter in (ADAPTER, dataclasses.replace(ADAPTER, alpha=16.0))
    )
    assert other["error"] == pytest.approx(same["error"], rel=1e-6)


def test_a_cancelled_training_resumes_bit_for_bit(bundled_model, host, rollout, first, tmp_path):
    whole = train_from(first, host, bundled_model, rollout)
    other_host = RecordingHost(tmp_path / "elsewhere", cancel_after=None)
    same_rollout = scored(other_host, bundled_model)
    other_host.cancel_after = other_host.checks + 12
    with pytest.raises(Cancelled):
        train_from(first, other_host, bundled_model, same_rollout)
    other_host.cancel_after = None
    assert_same_lora(train_from(first, other_host, bundled_model, same_rollout), whole)


def test_a_lora_file_is_the_same_start_as_its_training(bundled_model, host, rollout, first):
    loaded = aligned.from_file(first.path, host.output_dir)
    assert (loaded.folder, loaded.model, loaded.steps) == (first.folder, first.model, 6)
    direct = train_from(first, host, bundled_model, rollout)
    assert train_from(loaded, host, bundled_model, rollout).path == direct.path


def test_the_bundled_lora_can_be_one(host, bundled_model):
    [path] = files.BUNDLED.values()
    lora = aligned.from_file(path, host.output_dir)
    files.check_trained_for(lora, bundled_model)
    weights = files.load(path)
    config = AdapterConfig(weights.rank, weights.alpha, "attention+mlp")
    # Trainings record it: with another digest, none would resume.
    record = WarmStart(lora, bundled_model, config).record()
    assert record == {"lora": "tiny_sd3_signs", "weights": "fbf67df4124b3769"}


def test_another_rank_target_or_model_is_refused(bundled_model, host, rollout, first):
    for changes, message in (
        ({"rank": 8}, "rank: .* has rank 4, this training has rank 8. Set rank to 4"),
        ({"target": "attention+mlp"}, r"changes other layers than attention\+mlp. Set target to attention\."),
    ):  # fmt: skip
        adapter = dataclasses.replace(ADAPTER, **changes)
        with pytest.raises(InputError, match=message):
            train_from(first, host, bundled_model, rollout, adapter=adapter)
    other = dataclasses.replace(first, model={"pipeline": "other"})
    with pytest.raises(InputError, match="trained for another model"):
        train_from(other, host, bundled_model, rollout)


def test_a_lora_of_another_tool_is_refused(host, tmp_path):
    save_file({"x.lora_A.weight": torch.ones(2, 2)}, tmp_path / "style.safetensors")
    with pytest.raises(
        InputError, match=r"style\.safetensors is no LoRA that GDRO Train LoRA wrote"
    ):
        aligned.from_file(tmp_path / "style.safetensors", host.output_dir)
