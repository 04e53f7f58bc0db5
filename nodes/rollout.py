"""Nodes that make groups of images: the prompts, and the rollout."""

from __future__ import annotations

from comfy_api.latest import io

from .stage_node import StageNode, schema


class PromptSetNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_PromptSet", category="groups")


class ImportGroupsNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_ImportGroups", category="groups")


class GroupRolloutNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_GroupRollout", category="groups")
