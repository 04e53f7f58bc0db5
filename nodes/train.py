"""Nodes that train, and that say whether it helped."""

from __future__ import annotations

from comfy_api.latest import io

from .stage_node import StageNode, schema


class TrainLoRANode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_TrainLoRA", category="training")


class EvaluateAlignmentNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_EvaluateAlignment", category="training")
