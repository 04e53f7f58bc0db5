"""Nodes around models: load the base, generate with it, use both in ComfyUI."""

from __future__ import annotations

from comfy_api.latest import io

from .stage_node import StageNode, schema


class LoadBaseModelNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_LoadBaseModel", category="model")


class GenerateNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_Generate", category="model")


class ModelForComfyUINode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_ModelForComfyUI", category="model")


class AlignedFromFileNode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_AlignedFromFile", category="model")


class LoadAlignedLoRANode(StageNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(node_id="GDRO_LoadAlignedLoRA", category="model")

    @classmethod
    def validate_inputs(cls, lora_name: str = "") -> bool:
        # Takes the place of ComfyUI's own check, which would refuse a name that is not in the list (any
        # more) also where it is not looked at. The stage says what is wrong with it where it is.
        return True
