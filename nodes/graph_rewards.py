"""Nodes that make a reward of whatever nodes the graph has."""

from __future__ import annotations

from comfy_api.latest import io

from .stage_node import StageNode, schema


class RolloutImagesNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_RolloutImages", category="rewards")


class MeasureImageNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_MeasureImage", category="rewards")


class ScoresFromGraphNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_ScoresFromGraph", category="rewards")


class CompareRolloutsNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_CompareRollouts", category="training")


class RatingRewardNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_RatingReward", category="rewards")


class CombineRewardsNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_CombineRewards", category="rewards")
