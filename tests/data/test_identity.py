"""What counts as the same model, and runs of a version that recorded less of it."""

import pytest

from gdro_comfy.data import identity, runs
from gdro_comfy.data.prompts import Prompt

MODEL = {
    "pipeline": "StableDiffusion3Pipeline", "transformer": "aa", "dtype": "bfloat16",
    "quantization": "none", "text_encoders": {"clip_l": "bb"}, "vae": "cc",
}  # fmt: skip
BEFORE = {"pipeline": "StableDiffusion3Pipeline", "transformer": "aa"}
WIRES = {"pipeline": "Flux", "transformer": "dd", "dtype": "bfloat16", "patches": "", "vae": "ee"}


@pytest.mark.parametrize(
    ("key", "value"),
    [("dtype", "float32"), ("quantization", "nf4"), ("text_encoders", {}), ("vae", "dd")],
)
def test_a_base_differs_in_what_images_depend_on_and_a_network_does_not(key, value):
    other = {**MODEL, key: value}
    assert not identity.same_base(MODEL, other)
    assert identity.same_network(MODEL, other)
    assert identity.difference(MODEL, other).startswith(f"another {key.replace('_', ' ')}")
    assert identity.same_base(BEFORE, other)


def test_another_transformer_or_merged_lora_is_another_model():
    for other in ({**MODEL, "transformer": "zz"}, {**MODEL, "loras": [["aa", 1.0]]}):
        assert not identity.same_base(MODEL, other)
        assert not identity.same_base(BEFORE, other)
        assert not identity.same_network(MODEL, other)
    assert identity.difference(MODEL, {**MODEL, "dtype": "float32"}) == (
        "another dtype: bfloat16 there, float32 here"
    )


def test_wires_have_always_recorded_theirs():
    assert identity.of_version_before(WIRES) == WIRES
    assert not identity.same_base({k: v for k, v in WIRES.items() if k != "vae"}, WIRES)
    nested = {**WIRES, "vae": MODEL}  # of a model of the engine on the graph's wires
    assert identity.of_version_before(nested) == {**WIRES, "vae": BEFORE}


def settings(model):
    return runs.RunSettings(model, 4, 1.0, (64, 64), 0)


def test_a_run_of_the_version_before_goes_on_in_its_folder(tmp_path, caplog):
    old = runs.Run.open(tmp_path, "cats", settings(BEFORE))
    with caplog.at_level("INFO"):
        again = runs.Run.open(tmp_path, "cats", settings(MODEL))
    assert again.folder == old.folder
    assert again.settings == old.settings
    assert "taken to be the same" in caplog.text
    assert again.group(Prompt("a cat")).folder == old.group(Prompt("a cat")).folder


def test_a_run_of_this_version_is_not_mistaken_for_another(tmp_path):
    first = runs.Run.open(tmp_path, "cats", settings(MODEL))
    other = runs.Run.open(tmp_path, "cats", settings({**MODEL, "dtype": "float32"}))
    assert other.folder != first.folder
    runs.Run.open(tmp_path, "cats", settings(BEFORE))
    assert runs.Run.open(tmp_path, "cats", settings(MODEL)).folder == first.folder
