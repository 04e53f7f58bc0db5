"""A training with compiled blocks."""

import pytest
import torch
from recording_host import RecordingHost
from small_training import OBJECTIVE, config, scored

from gdro_comfy.errors import InputError
from gdro_comfy.training.train import train


def test_the_training_is_the_same_and_nothing_is_left_of_it(
    bundled_model, host, tmp_path, monkeypatch
):
    plain = train(host, bundled_model, scored(host, bundled_model), OBJECTIVE, config(steps=3))
    elsewhere = RecordingHost(tmp_path / "elsewhere")
    rollout = scored(elsewhere, bundled_model)
    compiled = []
    wrap = torch.compile

    def traced(function):
        """Traced as ever, but run by torch itself: making machine code would take minutes."""
        compiled.append(function)
        return wrap(function, backend="eager")

    monkeypatch.setattr(torch, "compile", traced)
    found = train(elsewhere, bundled_model, rollout, OBJECTIVE, config(steps=3, torch_compile=True))
    for one, other in zip(plain.history(), found.history(), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["error"] == pytest.approx(other["error"], rel=1e-4)
    blocks = bundled_model.transformer.transformer_blocks
    assert len(compiled) == 1 + len(blocks)
    assert all("forward" not in vars(block) for block in blocks)


def test_where_torch_cannot_compile_the_user_is_told_before_the_first_step(
    bundled_model, host, monkeypatch
):
    def broken(function):
        raise RuntimeError("No working C++ compiler found in\nx")

    monkeypatch.setattr(torch, "compile", broken)
    rollout = scored(host, bundled_model)
    with pytest.raises(InputError, match=r"torch_compile: .*No working C.. compiler.*Turn it off"):
        train(host, bundled_model, rollout, OBJECTIVE, config(steps=3, torch_compile=True))
    assert not list(host.output_dir.glob("gdro/*/train/*/history.jsonl"))
