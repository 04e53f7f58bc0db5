"""ComfyUI-GDRO: align SD3 and FLUX.1 to a reward of your own, on the canvas."""

from __future__ import annotations

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """What ComfyUI calls to get the pack's nodes."""
    from .nodes import GDROExtension

    return GDROExtension()
