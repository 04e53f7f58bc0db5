"""The table node id -> stage. ComfyUI's nodes and the headless runner both go through it.

Ids and input names are for ever, because saved workflows carry them.
"""

from __future__ import annotations

from . import evaluation, graph_rewards, groups, judges, models, native, rewards, training
from .base import MISSING, Input, Output, Stage

__all__ = ["MISSING", "STAGES", "Input", "Output", "Stage"]

STAGES: dict[str, Stage] = {
    **models.STAGES,
    **groups.STAGES,
    **rewards.STAGES,
    **judges.STAGES,
    **graph_rewards.STAGES,
    **training.STAGES,
    **evaluation.STAGES,
    **native.STAGES,
}
