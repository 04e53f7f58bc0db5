"""The engine reads text at the lengths of ComfyUI, where its LoRAs are used."""

from comfyui_scripts import run_in_comfyui


def test_text_has_the_length_that_comfyui_gives_it(comfy_python):
    rows = run_in_comfyui(comfy_python, "text_lengths.py")
    read = [row for row in rows if row["whole"]]
    assert {(row["model"], row["comfyui"]) for row in read} >= {("dev", 256), ("sd3", 77)}
    assert any(row["comfyui"] > (77 if row["model"] == "sd3" else 256) for row in read)
    for row in read:
        assert row["engine"] == row["comfyui"], row
