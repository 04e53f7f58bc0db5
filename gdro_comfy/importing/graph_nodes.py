"""What nodes of ComfyUI's graphs do to a text or a conditioning, by their types.

Whatever is not listed here is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

SAMPLERS: Mapping[str, tuple[str, ...]] = {
    "KSampler": ("positive",),
    "KSamplerAdvanced": ("positive",),
    "SamplerCustom": ("positive",),
    "CFGGuider": ("positive",),
    "PerpNegGuider": ("positive",),
    "BasicGuider": ("conditioning",),
    "DualCFGGuider": ("cond1", "cond2"),
    "DualModelGuider": ("positive",),
    "FluxSamplerParams+": ("conditioning",),
    "XlabsSampler": ("conditioning",),
}
"""Inputs for positive conditionings. Other nodes with an input "positive" count as samplers, too."""

_PAIR = {0: "positive", 1: "negative"}
_SINGLE = {0: "conditioning"}
CONDITIONINGS: Mapping[str, Mapping[int, str]] = {
    **dict.fromkeys(
        ("ControlNetApplyAdvanced", "ControlNetApplySD3", "ControlNetInpaintingAliMamaApply",
         "LTXVConditioning", "ModelSamplingFluxConditioning"),
        _PAIR,
    ),
    **dict.fromkeys(
        ("FluxGuidance", "FluxDisableGuidance", "ControlNetApply", "ConditioningSetTimestepRange",
         "ConditioningSetArea", "ConditioningSetAreaPercentage", "ConditioningSetAreaStrength",
         "ConditioningSetMask", "ConditioningSetProperties"),
        _SINGLE,
    ),
}  # fmt: skip
"""Nodes that pass a conditioning on with the same text: output -> input."""

PICTURES = frozenset({
    "StyleModelApply", "unCLIPConditioning", "ReferenceLatent", "InpaintModelConditioning",
    "InstructPixToPixConditioning", "StyleModelApplyAdvanced", "ReduxAdvanced", "FluxKontextImageScale",
    "FluxKontextMultiReferenceLatentMethod", "WanImageToVideo", "CosmosPredict2ImageToVideoLatent",
    "TextEncodeQwenImageEdit", "TextEncodeQwenImageEditPlus", "TextEncodeZImageOmni",
    "TextEncodeBooguEdit", "TextEncodeJoyImageEdit", "TextEncodeMageFlowEdit",
})  # fmt: skip
"""Nodes that mix a picture into the conditioning."""

SYSTEM_PROMPTS = frozenset({"CLIPTextEncodeLumina2"})
"""Encoders that put a text of their own before the prompt."""

ZEROED = frozenset({"ConditioningZeroOut"})
"""Nodes that leave nothing of the text."""

_TEXT = {0: ("text",)}
ENCODERS: Mapping[str, Mapping[int, tuple[str, ...]]] = {
    "CLIPTextEncode": _TEXT,
    "CLIPTextEncodeSDXLRefiner": _TEXT,
    "CLIPTextEncodeControlnet": _TEXT,
    "CLIPTextEncodePixArtAlpha": _TEXT,
    "CLIPTextEncodeSDXL": {0: ("text_g", "text_l")},
    "CLIPTextEncodeSD3": {0: ("clip_l", "clip_g", "t5xxl")},
    "CLIPTextEncodeFlux": {0: ("clip_l", "t5xxl")},
    "CLIPTextEncodeHunyuanDiT": {0: ("bert", "mt5xl")},
    "CLIPTextEncodeHiDream": {0: ("clip_l", "clip_g", "t5xxl", "llama")},
    "CLIPTextEncodeKandinsky5": {0: ("clip_l", "qwen25_7b")},
    "smZ CLIPTextEncode": _TEXT,
    "BNK_CLIPTextEncodeAdvanced": _TEXT,
    "Efficient Loader": {1: ("positive",), 2: ("negative",)},
}
"""Nodes that encode a text: output -> inputs, whose texts have to agree where they are not empty."""

TEXTS: Mapping[str, str] = {
    "PrimitiveString": "value",
    "PrimitiveStringMultiline": "value",
    "StringConstant": "string",
    "String Literal": "string",
    "CR Text": "text",
    "CR Prompt Text": "prompt",
    "ShowText|pysssss": "text",
    "Reroute": "",
}
"""Nodes that pass a text on unchanged, with its input."""

_SAVES = (
    "SaveImage",
    "SaveAnimatedWEBP",
    "SaveAnimatedPNG",
    "Image Save",
    "Image Saver",
    "SaveImageWebsocket",
)


def is_save(kind: str) -> bool:
    """Return whether a type of node saves images."""
    return kind.startswith(_SAVES)


def saves_nothing(kind: str) -> bool:
    """Return whether a type of node is known not to save images, so that what leads to it does not matter."""
    known = kind in SAMPLERS or kind in CONDITIONINGS or kind in ENCODERS or kind in TEXTS
    return known or kind.startswith(
        ("Preview", "VAEDecode", "LatentUpscale", "Empty", "MaskPreview")
    )


def chosen_input(
    kind: str, inputs: Mapping[str, Any], value_of: Callable[[Any], Any]
) -> str | None:
    """Return the name of the input that a switch passes on.

    Args:
        kind: the node's type.
        value_of: returns the value of an input, None if it cannot be told.

    Returns:
        The input; None if the node is no known switch, or its state cannot be told.
    """
    if kind == "ComfySwitchNode":
        state = value_of(inputs.get("switch"))
        return {True: "on_true", False: "on_false"}.get(state) if isinstance(state, bool) else None
    if kind in ("CR Text Input Switch", "CR Conditioning Input Switch"):
        number = value_of(inputs.get("Input"))
        stem = "text" if "Text" in kind else "conditioning"
        return f"{stem}{number}" if number in (1, 2) else None
    if kind == "Any Switch (rgthree)":
        linked = [name for name in inputs if name.startswith("any_")]
        return linked[0] if len(linked) == 1 else None
    if kind == "Reroute" and len(inputs) == 1:
        return next(iter(inputs))
    return None
