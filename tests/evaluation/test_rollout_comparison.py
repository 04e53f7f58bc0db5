"""Rollouts with a LoRA on, and two rollouts against each other."""

import dataclasses

import numpy as np
import pytest
from small_reward import RednessReward

from gdro_comfy.data import files
from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.evaluation.evaluate import evaluate
from gdro_comfy.evaluation.report import side_by_side
from gdro_comfy.evaluation.result import EvaluationConfig
from gdro_comfy.evaluation.rollout_comparison import compare_rollouts
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.training.config import TrainConfig
from gdro_comfy.training.objectives import GDRO
from gdro_comfy.training.train import train

HELDOUT = from_text("one red star\ntwo red squares\none blue circle")
CONFIG = RolloutConfig(images_per_prompt=2, steps=2, seed=9, run_name="heldout")
SETTINGS = TrainConfig(
    steps=3,
    groups_per_step=2,
    learning_rate=2e-2,
    adapter=AdapterConfig(4, 4.0, "attention"),
    preview_every=0,
)


@pytest.fixture
def trained(bundled_model, host):
    prompts = from_text("one red circle\ntwo blue squares")
    first = sample_rollout(host, bundled_model, prompts, RolloutConfig(4, 2, run_name="trial"))
    first = score_rollout(host, first, RednessReward())
    return train(host, bundled_model, first, GDRO(group_size=3), SETTINGS)


@pytest.fixture
def pair(bundled_model, host, trained):
    made = [sample_rollout(host, bundled_model, HELDOUT, CONFIG, lora) for lora in (None, trained)]
    return [score_rollout(host, rollout, RednessReward()) for rollout in made]


def test_agrees_with_the_evaluation_that_makes_its_own_pictures(bundled_model, host, trained, pair):
    found = compare_rollouts(*pair)
    config = EvaluationConfig(images_per_prompt=2, steps=2, seed=9)
    other = evaluate(host, bundled_model, trained, HELDOUT, RednessReward(), config).comparison
    assert found.gain != 0
    assert dataclasses.asdict(found) == pytest.approx(dataclasses.asdict(other), abs=1e-6)


def rated(rollout, values):
    """The rollout with these numbers for the reward's; None is not rated."""
    path = rollout.run.folder / "scores" / rollout.score_file
    rows = files.read_lines(path)
    names = list(dict.fromkeys(row["prompt"] for row in rows))  # in the order of the prompts
    for row in rows:
        row["value"] = values[names.index(row["prompt"])][row["image"]]
    files.write_lines(path, rows)
    return rollout


def test_of_partial_ratings_only_pictures_rated_in_both_count(pair):
    base = rated(pair[0], [[1, 3], [None, 2], [None, None]])
    aligned = rated(pair[1], [[2, 3], [5, 4], [5, 5]])
    found = compare_rollouts(base, aligned)
    assert (found.prompts, found.images) == (2, 2)
    assert (found.base, found.aligned, found.win_rate) == (2, 3.25, 1)
    with pytest.raises(InputError, match="aligned: 1 of 3 prompts"):
        compare_rollouts(rated(base, [[1, 3], [None, None], [None, None]]), aligned)
    with pytest.raises(InputError, match="base: none of its images has a score"):
        compare_rollouts(rated(base, [[None] * 2] * 3), aligned)


def test_the_lora_is_on_while_sampling_and_off_afterwards(bundled_model, host, pair):
    base, aligned = pair
    assert base.run.folder != aligned.run.folder
    assert not np.array_equal(base.groups()[0].image(0), aligned.groups()[0].image(0))
    again = sample_rollout(
        host, bundled_model, HELDOUT, dataclasses.replace(CONFIG, run_name="again")
    )
    assert np.array_equal(base.groups()[0].image(0), again.groups()[0].image(0))


def test_a_rollout_of_the_aligned_model_can_be_trained_on(bundled_model, host, pair):
    result = train(host, bundled_model, pair[1], GDRO(group_size=2), SETTINGS)
    assert result.path.is_file()


def test_the_picture_shows_both(pair):
    sheet = side_by_side(dict(zip(("base", "aligned"), pair, strict=True)), rows=2)
    width = sheet.width // 2
    left, right = sheet.crop((0, 0, width, sheet.height)), sheet.crop((width, 0, *sheet.size))
    assert left.tobytes() != right.tobytes()


def test_what_cannot_be_compared_is_named(bundled_model, host, trained, pair):
    base, _ = pair

    def against(aligned):
        with pytest.raises(InputError) as error:
            compare_rollouts(base, aligned)
        return str(error.value)

    assert "the same rollout as base" in against(base)
    other = sample_rollout(
        host, bundled_model, HELDOUT, dataclasses.replace(CONFIG, seed=8), trained
    )
    assert "its seed" in against(score_rollout(host, other, RednessReward()))
    fewer = sample_rollout(host, bundled_model, HELDOUT.limit(2), CONFIG, trained)
    assert "its prompts" in against(score_rollout(host, fewer, RednessReward()))
    assert "its reward" in against(sample_rollout(host, bundled_model, HELDOUT, CONFIG, trained))


def test_a_lora_of_another_model_is_refused_before_anything_is_made(bundled_model, host, trained):
    foreign = dataclasses.replace(trained, model={"other": 1})
    config = dataclasses.replace(CONFIG, run_name="foreign")
    with pytest.raises(InputError, match="aligned: this LoRA was trained for another model"):
        sample_rollout(host, bundled_model, HELDOUT, config, foreign)
    assert not list(host.output_dir.glob("gdro/foreign*"))
