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


class InstalledRewardNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_InstalledReward", category="rewards")

    @classmethod
    def validate_inputs(cls, reward: str = "") -> bool:
        # In the place of ComfyUI's own check: the stage says which package a workflow lacks, and a
        # package may have got another summary, which is part of the list's words.
        return True


class ScoreRolloutNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_ScoreRollout", category="rewards")
