"""The purposes of GDRO Train LoRA: their values are allowed, are those of shipped workflows, and train."""

import json
from pathlib import Path

import pytest
from recording_host import RecordingHost
from small_reward import RednessReward

from gdro_comfy.data.prompts import from_text
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES
from gdro_comfy.stages.algorithms import CHOICES
from gdro_comfy.stages.purposes import PURPOSES, STRENGTH_INPUTS, STRENGTHS, for_canvas
from gdro_comfy.stages.training import TRAIN_LORA

ROOT = Path(__file__).parents[2]
OUTER = {declared.name: declared for declared in TRAIN_LORA.inputs}
OF_THE_MODEL = {"learning_rate", "target", "rank", "alpha", "seed"}
SHOWS = {
    "quickstart": "a few minutes",
    "flux1_dev_signs": "an evening",
    "qwen_image_composition": "an evening, composition",
    "sd35_medium_dgpo_composition": "online",
    "rate_by_hand": "my ratings",
}
purposes = pytest.mark.parametrize("purpose", PURPOSES, ids=lambda purpose: purpose.key)


def declared(purpose):
    """Return the declaration of each input that a purpose sets, by the widget's name."""
    inner = CHOICES[purpose.values["algorithm"]]
    return {**OUTER, **{f"algorithm.{one.name}": one for one in inner}}


@purposes
def test_every_value_is_one_that_its_input_takes(purpose):
    inputs = declared(purpose)
    for name, value in purpose.values.items():
        item = inputs[name]
        if item.options or item.choices:
            assert value in (item.options or item.choices), name
        else:
            assert item.min <= value <= item.max, name
            assert isinstance(value, int) or item.type == "FLOAT", name
    assert not OF_THE_MODEL & purpose.values.keys(), "it goes with the model, and is kept"
    assert set(purpose.needs) <= OUTER.keys()


@pytest.mark.parametrize("name", SHOWS)
def test_a_purpose_has_the_values_of_the_workflow_that_is_its_source(name):
    workflow = json.loads((ROOT / "workflows" / f"{name}.json").read_text(encoding="utf-8"))
    [train] = [node for node in workflow["nodes"] if node["type"] == "GDRO_TrainLoRA"]
    [purpose] = [one for one in PURPOSES if one.key == SHOWS[name]]
    saved = train["widgets_values_named"]
    assert {key: saved[key] for key in purpose.values} == purpose.values


def test_only_five_settings_are_open():
    table = for_canvas(CHOICES)
    opened = [
        item.name
        for item in TRAIN_LORA.inputs
        if not item.advanced and not item.type.startswith("GDRO_")
    ]
    assert opened == ["steps", "rank", "seed"]  # and, on the canvas, purpose and strength
    assert len({one["key"] for one in table["purposes"]}) == len(PURPOSES)
    for name, inputs in CHOICES.items():
        strength = table["strength_inputs"][name].removeprefix("algorithm.")
        assert strength in {item.name for item in inputs}, "an algorithm without a strength"
    for inner in OUTER["algorithm"].choices.values():
        assert all(item.advanced for item in inner)


def test_the_canvas_has_words_for_each_purpose_and_strength():
    script = (ROOT / "web" / "purposes.js").read_text(encoding="utf-8")
    for key in (*(purpose.key for purpose in PURPOSES), *STRENGTHS):
        assert f't("{key}")' in script


@pytest.mark.parametrize("factor", STRENGTHS.values(), ids=STRENGTHS)
def test_every_strength_of_a_purpose_is_allowed(factor):
    for purpose in PURPOSES:
        name = STRENGTH_INPUTS[purpose.values["algorithm"]]
        item = declared(purpose)[f"algorithm.{name}"]
        assert item.min <= factor * purpose.values[f"algorithm.{name}"] <= item.max


@pytest.fixture(scope="module")
def groups(bundled_model, tmp_path_factory):
    """Score two groups of six, which is what the purposes need at least."""
    host = RecordingHost(tmp_path_factory.mktemp("purposes"))
    prompts = from_text("one red circle\ntwo blue squares")
    config = RolloutConfig(images_per_prompt=6, steps=2, run_name="purposes")
    return host, score_rollout(
        host, sample_rollout(host, bundled_model, prompts, config), RednessReward()
    )


@purposes
def test_every_purpose_trains(purpose, bundled_model, groups):
    host, rollout = groups
    values = {
        name: item.default for name, item in OUTER.items() if not item.type.startswith("GDRO_")
    }
    values |= {name: purpose.values[name] for name in purpose.values if "." not in name}
    inner = CHOICES[purpose.values["algorithm"]]
    values["algorithm"] = {
        "algorithm": purpose.values["algorithm"],
        **{item.name: purpose.values.get(f"algorithm.{item.name}", item.default) for item in inner},
    }
    # As many steps as rounds are the fewest that it takes; two rounds show that new groups are drawn.
    rounds = min(values["algorithm"].get("rounds", 1), 2)
    values["algorithm"] |= {"rounds": rounds, "prompts_per_round": 0} if rounds > 1 else {}
    if "ema_every" in values["algorithm"]:
        values["algorithm"]["ema_every"] = 1  # so few steps would leave the average as it starts
    small = {"steps": rounds, "groups_per_step": 1, "rank": 4, "preview_every": 0}
    reward = RednessReward() if "reward" in purpose.needs else None
    aligned, *_ = STAGES["GDRO_TrainLoRA"](
        host,
        model=bundled_model,
        rollout=rollout,
        **{**values, **small},
        reward=reward,
        validation_prompts=None,
        guard=None,
    )
    assert aligned.steps == rounds
    assert any(tensor.abs().max() > 0 for tensor in aligned.tensors().values())
