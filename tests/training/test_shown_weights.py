"""What is shown while training is what becomes the LoRA; prompts that are trained on are named."""

import logging

import pytest
import torch
from small_reward import RednessReward
from small_training import OBJECTIVE, config, scored

from gdro_comfy.data.prompts import from_text
from gdro_comfy.training import previews
from gdro_comfy.training.train import train
from gdro_comfy.training.validation import Validation


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


@pytest.fixture
def seen(monkeypatch):
    """Collect the weights in the adapter whenever a preview is sampled, with the step."""
    found = []
    sample, call = previews.sample_images, previews.Previews.__call__

    def watched(self, trainer, row):
        def sampled(*args):
            weights = {name: p.detach().clone() for name, p in trainer.parameters.items()}
            found.append((trainer.step, weights, trainer.result()))
            return sample(*args)

        monkeypatch.setattr(previews, "sample_images", sampled)
        return call(self, trainer, row)

    monkeypatch.setattr(previews.Previews, "__call__", watched)
    return found


@pytest.mark.parametrize("ema_decay", [0.9, 0.0])
def test_previews_are_by_the_weights_that_are_exported(
    bundled_model, host, rollout, seen, ema_decay
):
    settings = config(steps=3, preview_every=1, ema_decay=ema_decay)
    result = train(host, bundled_model, rollout, OBJECTIVE, settings)
    assert [step for step, _, _ in seen] == [1, 2, 3]
    exported = result.tensors()
    for name, shown in seen[-1][1].items():
        assert torch.equal(shown, exported[f"transformer.{name}.weight"])
    first = seen[0][1]
    assert any(not torch.equal(first[name], seen[-1][1][name]) for name in first)


def test_the_last_step_has_a_preview_whatever_the_interval(bundled_model, host, rollout, seen):
    result = train(host, bundled_model, rollout, OBJECTIVE, config(steps=3, preview_every=2))
    assert [step for step, _, _ in seen] == [2, 3]
    assert len(list((result.folder / "samples").glob("step_*.png"))) == 2


def test_validation_prompts_that_are_trained_on_are_counted(bundled_model, host, rollout, caplog):
    def trained(text):
        validation = Validation(from_text(text), RednessReward(), every=1, images_per_prompt=1)
        settings = config(steps=1)
        with caplog.at_level(logging.WARNING, logger="gdro_comfy"):
            result = train(
                host, bundled_model, rollout, OBJECTIVE, settings,
                reward=RednessReward(), validation=validation,
            )  # fmt: skip
        return result.history()[-1]["validation"]

    assert "trained_on" not in trained("one green circle")
    assert "also trained on" not in caplog.text
    assert trained("one red circle\none green circle\none yellow star")["trained_on"] == 2
    assert "2 of 3 validation prompts are also trained on" in caplog.text


def test_the_log_says_of_no_group_that_it_teaches_nothing_if_all_do(
    bundled_model, host, rollout, caplog
):
    with caplog.at_level(logging.INFO, logger="gdro_comfy"):
        train(host, bundled_model, rollout, OBJECTIVE, config(steps=1))
    (line,) = [r.getMessage() for r in caplog.records if "training on" in r.getMessage()]
    assert line == "training on 4 of 4 groups"
