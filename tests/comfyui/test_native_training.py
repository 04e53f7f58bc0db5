"""Training on wires: its memory, its agreement with diffusers, and what a cancel leaves behind."""

import pytest
from comfyui_scripts import run_in_comfyui


def run(comfy_python, *names):
    return run_in_comfyui(comfy_python, "native_training.py", *names)


def test_the_counted_memory_is_what_a_step_allocates(comfy_python):
    for row in run(comfy_python, "Flux", "SD3", "ZImage", "QwenImage"):
        assert row["whole"] == pytest.approx(1, abs=0.1), row
        assert row["recomputed"] == pytest.approx(1, abs=0.1), row


def test_a_lora_that_is_merged_into_the_weights_does_not_change_the_identity(comfy_python):
    assert run(comfy_python, "merged") == [{"merged": True, "same": True}]


def test_twenty_steps_agree_with_diffusers(comfy_python):
    (row,) = run(comfy_python, "roads")
    assert row["layers"] > 20
    assert row["moved"] > 0.1
    assert row["difference"] < 1e-3


def test_a_cancel_and_an_unloaded_model_leave_the_wire_and_the_result_as_they_are(comfy_python):
    (row,) = run(comfy_python, "interruptions")
    assert {r["stage"] for r in row["rows"][:-1]} == {"rollout", "training"}
    for left in row["rows"]:
        assert left["same weights"]
        assert left["same image"]
        assert (left["hooks"], left["in_training"]) == (0, False)
    assert row["resumed"], "a training that was cancelled ends in another LoRA"
    assert row["other"], "another seed ends in the same LoRA"


def test_diffusers_reads_the_lora_of_the_families_whose_names_it_knows(comfy_python):
    (rows,) = run(comfy_python, "diffusers")
    assert set(rows) == {"Flux2", "QwenImage", "HiDream"}
    for written, read, of_the_transformer in rows.values():
        assert 0 < written <= read == of_the_transformer
