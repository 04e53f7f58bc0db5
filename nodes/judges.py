"""Nodes of rewards that other networks give."""

from __future__ import annotations

from comfy_api.latest import io

from .stage_node import StageNode, schema


class PreferenceRewardNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_PreferenceReward", category="rewards")


class VLMRewardNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_VLMReward", category="rewards")
