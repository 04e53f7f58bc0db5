"""The header of a LoRA file."""

import dataclasses

from gdro_comfy.lora.metadata import header
from gdro_comfy.models.base import AdapterConfig
from gdro_comfy.training.config import TrainConfig


def test_the_header_has_the_fields_that_other_tools_read(bundled_model):
    config = TrainConfig(steps=7, adapter=AdapterConfig(16, 8.0))
    record = {
        "objective": {"name": "GDRO"},
        "training": dataclasses.asdict(config),
        "rollout": {"size": [512, 768]},
        "reward": "ocr-12345678.jsonl",
        "prompts": "abc",
    }
    fields = header("my_style", bundled_model, record)
    assert all(isinstance(value, str) for value in fields.values())
    assert fields["modelspec.sai_model_spec"] == "1.0.0"
    assert fields["modelspec.architecture"] == "stable-diffusion-3/lora"
    assert fields["modelspec.resolution"] == "512x768"
    assert (fields["ss_network_dim"], fields["ss_network_alpha"]) == ("16", "16.0")
    assert (fields["ss_base_model_version"], fields["ss_steps"]) == ("sd3", "7")
    assert (fields["gdro.method"], fields["gdro.reward"]) == ("GDRO", "ocr")
    assert (fields["modelspec.title"], fields["ss_output_name"]) == ("my_style", "my_style")
