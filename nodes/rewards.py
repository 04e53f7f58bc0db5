"""Nodes that say what is wanted: the rewards, and scoring with them."""

from __future__ import annotations

from comfy_api.latest import io

from .stage_node import StageNode, schema


class OCRRewardNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_OCRReward", category="rewards")


class CompositionRewardNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_CompositionReward", category="rewards")


class ScoreRolloutNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_ScoreRollout", category="rewards")
