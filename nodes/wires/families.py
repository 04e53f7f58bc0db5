"""What the classes of ComfyUI's models are: image families that can be aligned, and what is refused.

The names are those of ``comfy.supported_models`` (0.33). A class that is missing here is judged by its
structure alone (``checks.py``). That a network *may* be distilled or made for editing is said where files
of both kinds have the same layout, so that nothing in a MODEL tells them apart.
"""

from __future__ import annotations

from typing import NamedTuple

IMAGES = frozenset(
    {
        "Anima", "AuraFlow", "Boogu", "Chroma", "CosmosT2IPredict2", "ErnieImage", "Flux", "Flux2",
        "FluxSchnell", "HiDream", "HunyuanImage21", "Ideogram4", "JoyImage", "Kandinsky5Image",
        "Krea2", "Lens", "LongCatImage", "Lumina2", "MageFlow", "Omnigen2", "QwenImage", "SD3",
        "ZImage",
    }
)  # fmt: skip
"""Families that make images of text. Each is proven on a tiny network in tests/comfyui."""

FEW_STEPS = {
    "Boogu": "Boogu-Image-Turbo",
    "Chroma": "Chroma1-Flash",
    "ErnieImage": "ERNIE-Image-Turbo",
    "HiDream": "HiDream-I1-Fast",
    "Krea2": "Krea 2 Turbo",
    "Lens": "Lens-Turbo",
    "MageFlow": "Mage-Flow-Turbo",
    "SD3": "SD3.5-Large-Turbo",
    "ZImage": "Z-Image-Turbo",
}
"""Models distilled to a few steps that have the layout of their base."""

EDITING = {
    "Boogu": "Boogu-Image-Edit",
    "Flux": "FLUX.1-Kontext",
    "HiDream": "HiDream-E1",
    "JoyImage": "JoyAI-Image-Edit",
    "LongCatImage": "LongCat-Image-Edit",
    "MageFlow": "Mage-Flow-Edit",
    "QwenImage": "Qwen-Image-Edit",
}
"""Models made for editing that have the layout of their family's text-to-image model."""


class Variant(NamedTuple):
    """A kind of model within a class, known by a setting of its network.

    Args:
        family: class of ``comfy.supported_models``.
        setting: name in the configuration of the network.
        values: of the setting that make this kind; a missing setting is None.
        finding: what such a model is or may be.
        remedy: what to do.
    """

    family: str
    setting: str
    values: tuple[object, ...]
    finding: str
    remedy: str


REFUSED_VARIANTS = (
    Variant(
        "QwenImage", "use_additional_t_cond", (True,), "takes an image apart into layers",
        "Connect Qwen-Image itself.",
    ),
    Variant(
        "HunyuanImage21", "meanflow", (True,), "is distilled to a few steps by mean flow",
        "Connect the undistilled model of the family, and use the LoRA on either.",
    ),
)  # fmt: skip

WARNED_VARIANTS = (
    Variant(
        "FluxSchnell", "vec_in_dim", (768,),
        "has the layout of FLUX.1-schnell, which is distilled to a few steps; training loosens that",
        "Unless it is an undistilled derivative, train on FLUX.1-dev, and use the LoRA on either.",
    ),
)  # fmt: skip

NOTED_VARIANTS = (
    Variant(
        "Flux2", "guidance_embed", (False, None),
        "has the layout of FLUX.2 klein, whose distilled and base models are built alike",
        "If this is the distilled one, train on klein base, and use the LoRA on either.",
    ),
    Variant(
        "Ideogram4", "image_model", ("ideogram4",),
        "is guided in ComfyUI's workflow by a second, unconditional network",
        "Here, guidance takes the MODEL itself with the negative prompt.",
    ),
)  # fmt: skip


class Refusal(NamedTuple):
    """Classes that are refused, and why.

    Args:
        finding: continues "this ... model".
        remedy: what to connect instead.
        families: classes of ``comfy.supported_models``.
    """

    finding: str
    remedy: str
    families: tuple[str, ...]


_TEXT_TO_IMAGE = (
    "Connect a text-to-image model, such as SD3.5, FLUX, Qwen-Image, Krea 2 or Z-Image."
)
_SAME_FAMILY = "Connect the text-to-image model of the family."

REFUSALS = (
    Refusal(
        "makes videos", _TEXT_TO_IMAGE,
        (
            "CogVideoX_T2V", "CosmosT2V", "GenmoMochi", "HunyuanVideo", "HunyuanVideo15", "Kandinsky5",
            "LTXAV", "LTXV", "MiniMaxH3", "SVD_img2vid", "WAN21_CausalAR_T2V", "WAN21_FlowRVS",
            "WAN21_T2V", "WAN22_T2V",
        ),
    ),
    Refusal(
        "makes videos of images or videos that it is given", _TEXT_TO_IMAGE,
        (
            "CogVideoX_I2V", "CogVideoX_Inpaint", "CosmosI2V", "CosmosI2VPredict2", "HunyuanVideoI2V",
            "HunyuanVideoSkyreelsI2V", "WAN21_Camera", "WAN21_FunControl2V", "WAN21_HuMo", "WAN21_I2V",
            "WAN21_SCAIL", "WAN21_SCAIL2", "WAN21_Vace", "WAN22_Animate", "WAN22_Camera", "WAN22_S2V",
            "WAN22_WanDancer", "WAN_Animate2",
        ),
    ),
    Refusal(
        "sharpens or restores images or videos that it is given", _TEXT_TO_IMAGE,
        (
            "HunyuanImage21Refiner", "HunyuanVideo15_SR_Distilled", "PiD", "SDXLRefiner",
            "SD_X4Upscaler", "SeedVR2",
        ),
    ),
    Refusal(
        "edits or fills in an image that it is given", _SAME_FAMILY,
        ("FluxInpaint", "SD15_instructpix2pix", "SDXL_instructpix2pix"),
    ),
    Refusal(
        "works on pixels, not on latents", "Use a model of the same family that has a VAE.",
        ("ChromaRadiance", "HiDreamO1", "PixelDiTT2I", "ZImagePixelSpace"),
    ),
    Refusal(
        "makes sound, not images", _TEXT_TO_IMAGE,
        ("ACEStep", "ACEStep15", "MiniMaxMusic3", "StableAudio", "StableAudio3"),
    ),
    Refusal(
        "makes 3D shapes or views of an object, not images of text", _TEXT_TO_IMAGE,
        (
            "Hunyuan3Dv2", "Hunyuan3Dv2_1", "Hunyuan3Dv2mini", "SV3D_p", "SV3D_u", "Stable_Zero123",
            "Trellis2", "TripoSplat",
        ),
    ),
    Refusal(
        "measures or marks what is in an image, and makes none", _TEXT_TO_IMAGE,
        ("DepthAnything3", "LotusD", "RT_DETR_v4", "SAM3", "SAM31"),
    ),
)  # fmt: skip


def refusal(family: str, config: dict[str, object]) -> tuple[str, str] | None:
    """Return the finding and the remedy for a class that is refused, None for any other.

    Args:
        config: of the network.
    """
    for entry in REFUSALS:
        if family in entry.families:
            return entry.finding, entry.remedy
    found = matching(REFUSED_VARIANTS, family, config)
    return (found[0].finding, found[0].remedy) if found else None


def matching(
    variants: tuple[Variant, ...], family: str, config: dict[str, object]
) -> list[Variant]:
    """Return the variants that a network of a class is."""
    return [v for v in variants if v.family == family and config.get(v.setting) in v.values]


def is_known(family: str) -> bool:
    """Return whether the table says what a class is."""
    return family in IMAGES or any(family in entry.families for entry in REFUSALS)
