"""The header of a LoRA file: fields that other tools read, and those of GDRO.

``modelspec.*`` is Stability AI's model metadata, version 1.0.0; ``ss_*`` are the fields that training tools
write. All values are text, as safetensors requires.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..models.base import FlowModel


def header(title: str, model: FlowModel, record: dict[str, Any]) -> dict[str, str]:
    """Return the header of a LoRA that was trained on ``model``.

    Args:
        title: the name of the LoRA for lists.
        record: everything the LoRA depends on, the ``config.json`` of its training.
    """
    from .. import __version__

    training, rollout = record["training"], record["rollout"]
    adapter, size = training["adapter"], "x".join(str(side) for side in rollout["size"])
    now = datetime.now(timezone.utc)
    method = record["objective"]["name"]
    reward = str(record["reward"]).rpartition("-")[0]
    merged_hint = "".join(f"; with {lora} on the base, as in training" for lora in model.merged)
    merged = {"gdro.merged": ", ".join(model.merged)} if model.merged else {}
    return {
        **merged,
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.architecture": f"{model.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.date": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "modelspec.description": f"{method} on the reward {reward}, made with ComfyUI-GDRO",
        "modelspec.usage_hint": f"strength 1; no trigger word{merged_hint}",
        "modelspec.resolution": size,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(adapter["rank"]),
        # The file's updates have scale 1, whatever alpha the training had: see ``files.to_file_keys``.
        "ss_network_alpha": str(float(adapter["rank"])),
        "ss_base_model_version": model.base_version,
        "ss_output_name": title,
        "ss_steps": str(training["steps"]),
        "ss_max_train_steps": str(training["steps"]),
        "ss_learning_rate": str(training["learning_rate"]),
        "ss_optimizer": "torch.optim.AdamW",
        "ss_seed": str(training["seed"]),
        "ss_resolution": f"({size.replace('x', ', ')})",
        "ss_training_finished_at": str(now.timestamp()),
        "gdro.version": __version__,
        "gdro.method": method,
        "gdro.reward": reward,
        "gdro.prompts": record["prompts"],
        "gdro.base": json.dumps(model.identity, sort_keys=True),
        "gdro.training": json.dumps(record, sort_keys=True),
    }
