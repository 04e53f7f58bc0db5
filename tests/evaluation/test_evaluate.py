"""Base against aligned: the statistics by hand, and the whole on the bundled model."""

import dataclasses
import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from recording_host import RecordingHost
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.result import EvaluationConfig
from gdro_comfy.evaluation.statistics import compare, diversity
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards import RewardError
from gdro_comfy.rollouts import generate as generation
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train
from gdro_comfy.viewer import groups

HELDOUT = from_text("one red star\ntwo red squares\none blue circle")
CONFIG = EvaluationConfig(images_per_prompt=2, steps=2)


@pytest.fixture
def aligned(bundled_model, host):
    prompts = from_text("one red circle\ntwo blue squares")
    rollout = sample_rollout(
        host, bundled_model, prompts, RolloutConfig(images_per_prompt=4, steps=2, run_name="trial")
    )
    rollout = score_rollout(host, rollout, RednessReward())
    settings = TrainConfig(
        steps=3,
        groups_per_step=2,
        learning_rate=2e-2,
        adapter=AdapterConfig(4, 4.0, "attention"),
        preview_every=0,
    )
    return train(host, bundled_model, rollout, GDRO(group_size=3), settings)


def test_comparison_by_hand():
    base = np.array([[0.0, 0.2], [0.4, 0.6], [0.5, 0.5]])
    aligned = np.array([[0.3, 0.3], [0.6, 0.6], [0.2, 0.4]])
    found = compare("x", base, aligned)
    # Prompt means: base .1 .5 .5, aligned .3 .6 .3, differences .2 .1 -.2.
    assert found.base == pytest.approx(1.1 / 3)
    assert found.aligned == pytest.approx(0.4)
    assert found.gain == pytest.approx(0.1 / 3)
    mean = 0.1 / 3
    variance = sum((d - mean) ** 2 for d in (0.2, 0.1, -0.2)) / 2
    assert found.gain_error == pytest.approx(math.sqrt(variance / 3))
    assert found.win_rate == pytest.approx(2 / 3)
    assert not found.rose
    assert found.interval[0] < found.gain < found.interval[1]


def test_diversity_by_hand():
    black, white = Image.new("RGB", (64, 64)), Image.new("RGB", (64, 64), "white")
    assert diversity([black, white], 2) == pytest.approx(1.0)
    assert diversity([white, white, black, black], 2) == 0.0
    # Three pictures, one unlike the others: two of the three pairs are 1 apart.
    assert diversity([black, white, white], 3) == pytest.approx(2 / 3)
    assert diversity([black, white], 1) == 0.0


def test_a_clear_gain_is_called_one():
    noise = np.random.default_rng(0).normal(0, 0.01, (50, 2))
    assert compare("x", np.full((50, 2), 0.4), 0.5 + noise).rose
    assert not compare("x", np.full((50, 2), 0.4), 0.4 + noise - noise.mean()).rose


def test_report_is_written_and_read_again(bundled_model, host, aligned):
    reward = RednessReward()
    first = evaluate(host, bundled_model, aligned, HELDOUT, reward, CONFIG)
    assert first.comparison.prompts == 3
    assert first.comparison.images == 2
    assert "95 % interval" in first.comparison.table()
    assert (first.folder / "comparison.png").is_file()
    assert reward.scored == 12
    again = evaluate(host, bundled_model, aligned, HELDOUT, reward, CONFIG)
    assert reward.scored == 12
    assert again.comparison == first.comparison


def test_prompts_that_were_trained_on_are_named(bundled_model, host, aligned, caplog):
    mixed = from_text("one red star\none red circle\none blue circle")
    results = [
        evaluate(host, bundled_model, aligned, mixed, RednessReward(), CONFIG) for _ in range(2)
    ]
    for found in results:
        assert "\n1 of 3 prompts are also trained on" in found.table()
    assert "1 of 3 prompts are also trained on" in caplog.text
    clean = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), CONFIG)
    assert "also trained on" not in clean.table()


def test_the_guidance_0_is_an_evaluation_with_the_models_own(bundled_model, host, aligned):
    own, one = (
        evaluate(
            host, bundled_model, aligned, HELDOUT, RednessReward(), replace(CONFIG, guidance=scale)
        )
        for scale in (0.0, 1.0)
    )
    assert own.folder == one.folder


def test_a_guard_gives_the_corrected_score(bundled_model, host, aligned):
    reward, guard = RednessReward(1.0), RednessReward(0.5)
    found = evaluate(host, bundled_model, aligned, HELDOUT, reward, CONFIG, guard)
    (result,) = found.results
    assert result.guard is not None
    assert result.corrected is not None
    # Here u = 1 + 4 r / 2 for every picture, so that corrected = r (2 r - 2) + 0.2.
    record = json.loads((found.folder / "result.json").read_text())
    r = np.array(record["rewards"]["base"]["reward"])
    assert result.corrected.base == pytest.approx((r * (2 * r - 2) + 0.2).mean(), abs=1e-4)
    assert "corrected score" in found.table()
    again = evaluate(host, bundled_model, aligned, HELDOUT, reward, CONFIG, guard)
    assert again.results == found.results


def test_several_loras_and_a_report_that_stands_alone(bundled_model, host, aligned):
    prompts = from_text("<b>red</b> & star\ntwo red squares")
    found = evaluate(host, bundled_model, [aligned, aligned], prompts, RednessReward(), CONFIG)
    one, two = found.results
    assert (one.name, two.name) == ("aligned", "aligned 2")
    assert one.comparison == two.comparison
    assert one.drift > 0
    page = found.report.read_text(encoding="utf-8")
    assert "&lt;b&gt;red&lt;/b&gt; &amp; star" in page
    assert page.count("<img") == 2 * 3 * 2
    assert not re.search(r"https?:|<script|<link|<b>red", page)


def test_strength_zero_gains_nothing(bundled_model, host, aligned):
    config = dataclasses.replace(CONFIG, strength=0.0)
    found = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), config)
    assert found.comparison.gain == pytest.approx(0.0, abs=1e-6)
    assert found.results[0].drift == pytest.approx(0.0, abs=1e-9)


def test_generate_shows_the_same_difference(bundled_model, host, aligned):
    def make(**changes):
        return generation.generate(
            host, bundled_model, "one red star", 3, 7, steps=2, guidance=1.0, **changes
        )

    base, off, on = make(), make(aligned=aligned, strength=0.0), make(aligned=aligned)
    assert base.shape == (3, 64, 64, 3)
    assert (base - off).abs().max() == 0
    assert (base - on).abs().max() > 0.01
    assert (make() - base).abs().max() == 0


def test_an_empty_prompt_is_refused(bundled_model, host):
    with pytest.raises(InputError, match="prompt: it is empty"):
        generation.generate(host, bundled_model, "  ", 1, 0, steps=1, guidance=1.0)


def test_a_lora_of_another_model_is_refused(bundled_model, host, aligned):
    other = dataclasses.replace(aligned, model={"pipeline": "another"})
    with pytest.raises(InputError, match="trained for another model"):
        evaluate(host, bundled_model, other, HELDOUT, RednessReward(), CONFIG)


def test_one_prompt_is_too_few(bundled_model, host, aligned):
    with pytest.raises(InputError, match="at least 2 prompts"):
        evaluate(host, bundled_model, aligned, from_text("one red star"), RednessReward(), CONFIG)


def test_an_interrupted_evaluation_goes_on_where_it_stopped(
    bundled_model, host, aligned, monkeypatch
):
    batches = []
    sample = bundled_model.sample

    def counted(conditioning, seeds, *rest):
        batches.append(len(seeds))
        return sample(conditioning, seeds, *rest)

    monkeypatch.setattr(bundled_model, "sample", counted)
    whole = evaluate(
        RecordingHost(host.output_dir), bundled_model, aligned, HELDOUT, RednessReward(), CONFIG
    )
    assert sum(batches) == 2 * 6
    shutil.rmtree(whole.folder.parent)

    batches.clear()
    monkeypatch.setattr(bundled_model, "batch_size", lambda size: 2)
    host.cancel_after = host.checks + 9
    with pytest.raises(Cancelled):
        evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), CONFIG)
    assert not list(whole.folder.parent.glob("*/result.json"))
    finished = len(list(whole.folder.parent.glob("rollouts/*/prompts/*/*.png")))
    assert 0 < finished < 12
    host.cancel_after = None
    batches.clear()
    result = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), CONFIG)
    assert sum(batches) == 12 - finished
    assert result.comparison.gain == pytest.approx(whole.comparison.gain, abs=1e-3)


def test_prompts_are_encoded_once_and_images_shared_by_evaluations(
    bundled_model, host, aligned, monkeypatch
):
    encoded, sampled = [], []
    encode, sample = bundled_model.encode, bundled_model.sample
    monkeypatch.setattr(
        bundled_model, "encode", lambda prompts: (encoded.append(len(prompts)), encode(prompts))[1]
    )
    monkeypatch.setattr(
        bundled_model,
        "sample",
        lambda c, seeds, *r: (sampled.append(len(seeds)), sample(c, seeds, *r))[1],
    )
    first = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(1.0), CONFIG)
    assert (encoded, sum(sampled)) == ([3], 12)
    second = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(0.5), CONFIG)
    assert second.folder != first.folder
    assert (encoded, sum(sampled)) == ([3], 12)
    more = dataclasses.replace(CONFIG, images_per_prompt=3)
    evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(1.0), more)
    assert (encoded, sum(sampled)) == ([3], 18)


def test_the_images_of_an_evaluation_are_groups_with_their_scores(bundled_model, host, aligned):
    evaluation = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), CONFIG)
    record = json.loads((evaluation.folder / "result.json").read_text())
    for name in record["rollouts"]:
        folder = evaluation.folder.parent / "rollouts" / name
        page = groups.page(folder)
        assert page["total"] == 3
        assert all(len(group["images"]) == 2 for group in page["groups"])
        assert page["range"] is not None


def test_a_score_that_is_not_finite_is_refused(bundled_model, host, aligned):
    class Broken(RednessReward):
        def score(self, images, prompts, check_cancelled=lambda: None):
            result = super().score(images, prompts, check_cancelled)
            result.values[-1] = math.nan
            return result

    with pytest.raises(RewardError, match="nan"):
        evaluate(host, bundled_model, aligned, HELDOUT, Broken(), CONFIG)


def test_a_damaged_result_is_made_again(bundled_model, host, aligned):
    evaluation = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), CONFIG)
    (evaluation.folder / "result.json").write_text("[1, 2")
    again = evaluate(host, bundled_model, aligned, HELDOUT, RednessReward(), CONFIG)
    assert again.results == evaluation.results
