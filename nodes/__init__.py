"""What ComfyUI sees: the list of the pack's nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import routes
from .graph_rewards import (
    CombineRewardsNode,
    CompareRolloutsNode,
    MeasureImageNode,
    RatingRewardNode,
    RolloutImagesNode,
    ScoresFromGraphNode,
)
from .judges import PreferenceRewardNode, VLMRewardNode
from .model import (
    AlignedFromFileNode,
    GenerateNode,
    LoadAlignedLoRANode,
    LoadBaseModelNode,
    ModelForComfyUINode,
)
from .rewards import (
    CompositionRewardNode,
    InstalledRewardNode,
    OCRRewardNode,
    ScoreRolloutNode,
)
from .rollout import GroupRolloutNode, ImportGroupsNode, PromptSetNode
from .train import EvaluateAlignmentNode, TrainLoRANode

NODES: list[type[io.ComfyNode]] = [
    LoadBaseModelNode,
    PromptSetNode,
    GroupRolloutNode,
    ImportGroupsNode,
    OCRRewardNode,
    CompositionRewardNode,
    VLMRewardNode,
    PreferenceRewardNode,
    InstalledRewardNode,
    RolloutImagesNode,
    MeasureImageNode,
    ScoresFromGraphNode,
    RatingRewardNode,
    CombineRewardsNode,
    ScoreRolloutNode,
    TrainLoRANode,
    EvaluateAlignmentNode,
    CompareRolloutsNode,
    GenerateNode,
    LoadAlignedLoRANode,
    AlignedFromFileNode,
    ModelForComfyUINode,
]


class GDROExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
