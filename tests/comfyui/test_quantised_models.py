"""Weights as loaders and other packs store them: gradients are right, or the layer is refused by name."""

import pytest
from comfyui_scripts import run_in_comfyui

EXACT = (
    "fp8",
    "fp8 scaled, bf16 products",
    "mxfp8",
    "nvfp4",
    "nvfp4 smoothed",
    "packed with a cast",
)
ROUNDED = ("fp8 scaled", "int8", "int8 convrot", "w4a8", "convrot w4a4")
"""Formats whose layers round their input, too, which the dequantised network does not."""
OWN_DTYPE = "a layer in bf16"
REFUSED = ("packed, no cast", "no linear class", "scaled aside")


@pytest.fixture(scope="module")
def measured(comfy_python):
    rows = run_in_comfyui(
        comfy_python, "quantised_networks.py", *EXACT, *ROUNDED, OWN_DTYPE, *REFUSED
    )
    return {row["format"]: row for row in rows}


@pytest.mark.parametrize("name", EXACT)
def test_gradients_are_those_of_the_numbers_that_the_weights_stand_for(measured, name):
    row = measured[name]
    assert row["finite"] is True
    assert row["velocity"] < 1e-5
    assert row["gradient"] < 1e-5


@pytest.mark.parametrize("name", ROUNDED)
def test_gradients_are_off_by_no_more_than_the_rounding_of_the_inputs(measured, name):
    row = measured[name]
    assert row["finite"] is True
    assert 0 < row["velocity"] < 0.3
    assert row["gradient"] < 1.5 * row["velocity"]


def test_one_layer_of_each_way_of_storing_is_tried(measured):
    for name in (*EXACT, *ROUNDED):
        plain = name == "fp8"  # ComfyUI's own layers with numbers as they are need no trial
        assert measured[name]["tried"] == (0 if plain else 1 if "packed" not in name else 2), name
        assert measured[name]["layers"] > 20


def test_a_layer_that_computes_in_its_own_dtype_passes(measured):
    assert measured[OWN_DTYPE]["tried"] == 2


def test_layers_that_gradients_cannot_pass_through_are_refused_by_name(measured):
    said = {name: measured[name]["refused"] for name in REFUSED}
    start = "model: gradients cannot pass through its layer"
    assert said["packed, no cast"].startswith(
        f"{start} double_blocks.0.img_mod.lin (WithoutCast.Linear, uint8): its weight"
    )
    assert said["no linear class"].startswith(
        f"{start} img_in (Foreign.Linear, float32): it is a linear layer whose weight cannot be read"
    )
    assert "is not what it computes (off by 200%)" in said["scaled aside"]
    assert all("Load the model as bf16, fp8, int8 or GGUF" in text for text in said.values())
