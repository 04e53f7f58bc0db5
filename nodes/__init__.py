"""What ComfyUI sees: the list of the pack's nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from ..gdro_comfy.stages import STAGES
from . import routes
from .stage_node import StageNode, node_class


class LoadAlignedLoRANode(StageNode):
    NODE_ID = "GDRO_LoadAlignedLoRA"

    @classmethod
    def validate_inputs(cls, lora_name: str = "") -> bool:
        # Replaces ComfyUI's own check, which refuses a name that is not in the list even where the
        # LoRA comes over a connection. The stage checks the name when it uses it.
        return True


class InstalledRewardNode(StageNode):
    NODE_ID = "GDRO_InstalledReward"

    @classmethod
    def validate_inputs(cls, reward: str = "") -> bool:
        # Replaces ComfyUI's own check: the stage names the package that a workflow lacks, and finds a
        # reward whose summary, which is part of its text in the list, has changed.
        return True


_WRITTEN_OUT: dict[str, type[StageNode]] = {
    node.NODE_ID: node for node in (LoadAlignedLoRANode, InstalledRewardNode)
}

NODES: list[type[io.ComfyNode]] = [
    _WRITTEN_OUT.get(node_id) or node_class(node_id) for node_id in STAGES
]


class GDROExtension(ComfyExtension):
    """The pack, as ComfyUI loads it."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
