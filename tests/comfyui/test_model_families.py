"""Every model of the installed ComfyUI is an image family of the table, or refused for a reason."""

import pytest
from comfyui_scripts import load_families, run_in_comfyui

VIDEO = (
    "CosmosI2V", "CosmosT2V", "GenmoMochi", "HunyuanVideo", "HunyuanVideo15", "Kandinsky5", "LTXV",
    "LTXAV", "WAN21_T2V", "WAN22_T2V",
)  # fmt: skip


@pytest.fixture(scope="module")
def found(comfy_python):
    (report,) = run_in_comfyui(comfy_python, "model_classes.py")
    return report


def test_every_class_that_samples_a_flow_is_in_the_table(found):
    listed = {*found["table"], *found["refused"]}
    new = {name for name, row in found["classes"].items() if row["flow"]} - listed
    assert not new, (
        f"ComfyUI has models that nodes/wires/families.py does not know: {sorted(new)}. Add each to "
        "IMAGES, with a tiny network, or to REFUSALS."
    )


def test_the_table_names_no_class_that_comfyui_does_not_have(found):
    assert {*found["table"], *found["refused"]} <= set(found["classes"])
    assert not {*found["table"]} & {*found["refused"]}


def test_image_families_pass_and_all_other_models_are_refused(found):
    passed = {name for name, row in found["classes"].items() if not row["refusal"]}
    assert passed == set(load_families().IMAGES)


@pytest.mark.parametrize("name", VIDEO)
def test_a_video_model_is_refused_as_one(found, name):
    assert f"this {name} model makes videos" in found["classes"][name]["refusal"]


def test_models_that_are_not_their_familys_base_are_refused(found):
    said = {name: row["refusal"] for name, row in found["variants"].items()}
    assert said["layers"].startswith("model: this QwenImage model takes an image apart into layers")
    assert "distilled to a few steps by mean flow" in said["mean flow"]
    assert said["depth"].startswith("model: this Flux model edits or fills in an image")


def test_only_what_may_be_distilled_is_said_to_be(found):
    logged = {name: row["logged"] for name, row in found["variants"].items()}
    assert [line[:8] for line in logged["schnell"]] == ["WARNING:"]
    assert "train on FLUX.1-dev" in logged["schnell"][0]
    assert logged["ovis"] == logged["flux2"] == []
    assert "train on klein base" in logged["klein"][0]
    turbo = found["classes"]["ZImage"]["logged"]
    assert turbo[0].startswith("INFO: ZImage: Z-Image-Turbo is distilled to a few steps")


def test_a_class_of_another_pack_goes_by_its_structure(found):
    row = found["variants"]["of a pack"]
    assert row["refusal"] == ""
    assert "judged by its structure alone" in row["logged"][0]


def test_a_model_that_asks_for_more_than_a_text_is_refused(found):
    refusal = found["variants"]["asks for more"]["refusal"]
    assert refusal.startswith("model: this AsksForMore model asks for more than a text (KeyError")
