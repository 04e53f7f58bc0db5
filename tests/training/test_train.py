"""Training: it learns, it resumes bit for bit, and it refuses what cannot work."""

import math
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from recording_host import RecordingHost
from safetensors.torch import load_file
from small_reward import RednessReward
from small_training import OBJECTIVE, PROMPTS, assert_same_lora, config, scored

from gdro_comfy.errors import InputError
from gdro_comfy.lora import files
from gdro_comfy.progress import Cancelled
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training import commands, trainer
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO, top1_error
from gdro_comfy.training.train import train


@pytest.fixture
def rollout(bundled_model, host):
    return scored(host, bundled_model)


def test_first_loss_is_exactly_that_of_zero_scores(bundled_model, host, rollout):
    objective = GDRO(group_size=3, beta=10.0, temperature=0.05, top1_weight=0.0)
    result = train(host, bundled_model, rollout, objective, config(steps=1))
    first = result.history()[0]
    assert first["group_loss"] == pytest.approx(math.log(6), rel=1e-6)
    assert first["error"] == first["reference_error"]
    assert first["margin"] == 0.0


def test_the_lora_and_its_history_are_complete(bundled_model, host, rollout):
    result = train(host, bundled_model, rollout, OBJECTIVE, config())
    assert [row["step"] for row in result.history()] == [1, 2, 3, 4, 5, 6]
    assert len(result.loss_map()["loss"]) == 6
    assert result.path.parent.parent == host.lora_dir
    weights = files.load(result.path)
    files.check_fits(weights, bundled_model, "the LoRA")
    still = [k for k, t in weights.tensors.items() if k.endswith("lora_B") and t.abs().max() == 0]
    # The last block drops what the text asks of the image: its query is never used.
    assert still == ["transformer_blocks.3.attn.add_q_proj.lora_B"]
    assert [e for e, _ in host.events if e == "train_step"] == ["train_step"] * 6
    keys = set(result.tensors())
    assert "transformer.transformer_blocks.0.attn.to_q.lora_A.weight" in keys
    assert "transformer.transformer_blocks.0.attn.to_q.lora_B.weight" in keys


def test_the_model_is_left_alone(bundled_model, host, rollout):
    before = {n: p.clone() for n, p in bundled_model.transformer.named_parameters()}
    with torch.inference_mode():  # as ComfyUI calls it
        train(host, bundled_model, rollout, OBJECTIVE, config())
    after = dict(bundled_model.transformer.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[n], before[n]) for n in before)


def test_it_learns_to_prefer_the_better_images(bundled_model, host, rollout):
    objective = GDRO(group_size=4, beta=30.0, temperature=0.05, top1_weight=0.0)
    settings = config(steps=40, groups_per_step=4, learning_rate=5e-3)
    rows = train(host, bundled_model, rollout, objective, settings).history()
    last = rows[-10:]
    assert np.mean([row["group_loss"] for row in last]) < rows[0]["group_loss"] - 0.2
    assert np.mean([row["accuracy"] for row in last]) > 0.75
    assert np.mean([row["margin"] for row in last]) > 0


def test_finished_training_returns_at_once(bundled_model, host, rollout):
    first = train(host, bundled_model, rollout, OBJECTIVE, config())
    stamp = first.path.stat().st_mtime_ns
    host.events.clear()
    again = train(host, bundled_model, rollout, OBJECTIVE, config())
    assert again == first
    assert [event for event, _ in host.events] == ["training"], "it trained again"
    assert first.path.stat().st_mtime_ns == stamp


def test_other_settings_are_another_training(bundled_model, host, rollout):
    first = train(host, bundled_model, rollout, OBJECTIVE, config())
    other = train(host, bundled_model, rollout, OBJECTIVE, config(learning_rate=2e-3))
    assert other.path != first.path
    assert first.path.is_file()


def same_every_time(result):
    """The history without what differs from run to run."""
    measured = ("seconds", "memory")
    return [{k: v for k, v in row.items() if k not in measured} for row in result.history()]


def test_the_history_says_what_a_step_took_and_where_it_can_go_on_from(
    host, bundled_model, rollout
):
    rows = train(host, bundled_model, rollout, OBJECTIVE, config(checkpoint_every=2)).history()
    assert all(row["seconds"] > 0 and row["memory"] > 1e7 for row in rows)
    assert [row["step"] for row in rows if row.get("checkpoint")] == [
        step for step in range(1, len(rows) + 1) if step % 2 == 0 or step == len(rows)
    ]


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_cancelled_training_goes_on_to_the_same_lora(bundled_model, tmp_path, after):
    whole_host = RecordingHost(tmp_path / "whole")
    whole = train(whole_host, bundled_model, scored(whole_host, bundled_model), OBJECTIVE, config())
    host = RecordingHost(tmp_path / "broken")
    rollout = scored(host, bundled_model)
    host.checks, host.cancel_after = 0, 2 * after
    with pytest.raises(Cancelled):
        train(host, bundled_model, rollout, OBJECTIVE, config())
    host.cancel_after = None
    result = train(host, bundled_model, rollout, OBJECTIVE, config())
    assert_same_lora(result, whole)
    assert same_every_time(result) == same_every_time(whole)


def test_the_fused_optimizer_of_gpus_goes_on_alike(bundled_model, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "_FUSED_ON", ("cpu",))
    test_a_cancelled_training_goes_on_to_the_same_lora(bundled_model, tmp_path, 3)


@pytest.mark.slow
def test_a_killed_training_goes_on_to_the_same_lora(bundled_model, tmp_path):
    whole_host = RecordingHost(tmp_path / "whole")
    whole = train(
        whole_host, bundled_model, scored(whole_host, bundled_model), OBJECTIVE, config(steps=30)
    )
    host = RecordingHost(tmp_path / "killed")
    rollout = scored(host, bundled_model)
    script = textwrap.dedent(
        """
        import sys, torch
        from pathlib import Path
        sys.path.insert(0, sys.argv[2])
        torch.set_num_threads(int(sys.argv[3]))
        import small_training as t
        from gdro_comfy.models import loading
        from gdro_comfy.training.train import train
        from recording_host import RecordingHost
        model = loading.load(loading.bundled_folder("tiny SD3"), torch.device("cpu"))
        host = RecordingHost(Path(sys.argv[1]))
        train(host, model, t.scored(host, model), t.OBJECTIVE, t.config(steps=30))
        """
    )
    here, threads = str(Path(small_training.__file__).parent), str(torch.get_num_threads())
    process = subprocess.Popen([sys.executable, "-c", script, str(host.output_dir), here, threads])
    try:
        while not list(host.output_dir.rglob("checkpoint.safetensors")) and process.poll() is None:
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    assert list(host.output_dir.rglob("checkpoint.safetensors"))
    assert not list(host.output_dir.rglob("done.json"))
    result = train(host, bundled_model, rollout, OBJECTIVE, config(steps=30))
    assert_same_lora(result, whole)


def test_images_at_once_do_not_change_the_gradient(bundled_model, tmp_path):
    loras = []
    for at_once in (0, 3, 2):
        host = RecordingHost(tmp_path / str(at_once))
        rollout = scored(host, bundled_model)
        settings = config(steps=1, groups_per_step=4, images_at_once=at_once)
        loras.append(train(host, bundled_model, rollout, OBJECTIVE, settings))
    one, *others = (r.history()[0] for r in loras)
    for other in others:
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_out_of_memory_halves_the_groups_and_repeats_the_step(
    bundled_model, host, rollout, monkeypatch
):
    velocity = bundled_model.velocity

    def small(x, sigma, cond):
        if len(x) > 3:
            raise torch.OutOfMemoryError("pretend")
        return velocity(x, sigma, cond)

    monkeypatch.setattr(bundled_model, "velocity", small)
    result = train(host, bundled_model, rollout, OBJECTIVE, config(steps=2))
    assert len(result.history()) == 2


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(
    bundled_model, host, rollout, monkeypatch
):
    velocity, calls = bundled_model.velocity, []

    def broken(x, sigma, cond):
        calls.append(1)
        v = velocity(x, sigma, cond)
        return v * math.nan if len(calls) > 4 else v

    monkeypatch.setattr(bundled_model, "velocity", broken)
    with pytest.raises(InputError, match=r"learning_rate.*three times in a row"):
        train(host, bundled_model, rollout, OBJECTIVE, config(steps=20))
    monkeypatch.undo()
    tensors = __import__("safetensors.torch").torch.load_file(
        next(host.output_dir.rglob("checkpoint.safetensors"))
    )
    assert all(t.isfinite().all() for t in tensors.values())


def test_previews_are_made_and_kept(bundled_model, host, rollout):
    result = train(host, bundled_model, rollout, OBJECTIVE, config(steps=4, preview_every=2))
    names = [path.name for path in sorted((result.folder / "samples").iterdir())]
    assert names == ["step_00002.png", "step_00004.png"]


def test_k_above_the_images_of_a_group_is_refused(bundled_model, host, rollout):
    with pytest.raises(InputError, match=r"group_size: 5 images .* of 4"):
        train(host, bundled_model, rollout, GDRO(group_size=5), config())


def test_groups_of_another_model_are_refused(bundled_model, host, rollout, monkeypatch):
    monkeypatch.setattr(bundled_model, "identity", {"pipeline": "another"})
    with pytest.raises(InputError, match="made by another model"):
        train(host, bundled_model, rollout, OBJECTIVE, config())


def test_unscored_groups_are_refused(bundled_model, host):
    rollout = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(images_per_prompt=4, steps=2, run_name="bare")
    )
    with pytest.raises(InputError, match="no scores yet"):
        train(host, bundled_model, rollout, OBJECTIVE, config())


def test_equal_rewards_make_no_lora(bundled_model, host):
    rollout = sample_rollout(
        host, bundled_model, PROMPTS, RolloutConfig(images_per_prompt=4, steps=2, run_name="bare")
    )
    with pytest.raises(InputError, match="every image has the same reward"):
        train(
            host,
            bundled_model,
            score_rollout(host, rollout, RednessReward(0.0)),
            OBJECTIVE,
            config(),
        )
    assert not host.lora_dir.exists()


def test_learning_rate_warms_up_and_falls():
    c = TrainConfig(steps=100, warmup_steps=10, learning_rate=1.0)
    assert c.learning_rate_at(0) == pytest.approx(0.1)
    assert c.learning_rate_at(9) == pytest.approx(1.0)
    assert c.learning_rate_at(55) == pytest.approx(0.02 + 0.98 / 2)
    assert c.learning_rate_at(99) < 0.03


def test_top_error_takes_the_mean_of_tied_best():
    errors = torch.tensor([[1.0, 3.0, 10.0], [2.0, 5.0, 7.0]])
    rewards = torch.tensor([[0.9, 0.9, 0.1], [0.0, 0.1, 0.5]])
    assert top1_error(errors, rewards).item() == pytest.approx((2.0 + 7.0) / 2)


def test_a_training_stops_when_asked_and_keeps_its_lora(bundled_model, host, rollout):
    class Impatient(RecordingHost):
        def emit(self, event, payload):
            super().emit(event, payload)
            if event == "train_step" and payload["step"] in (2, 3):
                folder = rollout.run.folder / "train" / payload["training"]
                commands.send(folder, "save" if payload["step"] == 2 else "stop")

    impatient = Impatient(host.output_dir)
    result = train(impatient, bundled_model, rollout, OBJECTIVE, config())
    assert result.steps == 4
    [saved] = result.path.parent.glob("*_step00003.safetensors")
    assert load_file(saved).keys() == result.tensors().keys()
    assert [row["step"] for row in result.history()] == [1, 2, 3, 4]
    again = train(host, bundled_model, rollout, OBJECTIVE, config())
    assert again.steps == 4, "the same graph trained on"
    commands.reopen(result.folder)
    onward = train(host, bundled_model, rollout, OBJECTIVE, config())
    assert [row["step"] for row in onward.history()] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InputError, match="all of its steps"):
        commands.reopen(onward.folder)


def test_a_training_that_goes_on_ends_in_the_lora_of_one_that_was_never_stopped(
    bundled_model, host, rollout
):
    straight = train(host, bundled_model, rollout, OBJECTIVE, config())
    expected = straight.tensors()
    shutil.rmtree(straight.folder)

    class Impatient(RecordingHost):
        def emit(self, event, payload):
            super().emit(event, payload)
            if event == "train_step" and payload["step"] == 2:
                commands.send(rollout.run.folder / "train" / payload["training"], "stop")

    stopped = train(Impatient(host.output_dir), bundled_model, rollout, OBJECTIVE, config())
    assert stopped.steps < 6
    commands.reopen(stopped.folder)
    onward = train(host, bundled_model, rollout, OBJECTIVE, config()).tensors()
    assert all(torch.equal(onward[key], expected[key]) for key in expected)
