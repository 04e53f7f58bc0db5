"""The engine of ComfyUI-GDRO: groups of images, rewards, and GDRO training of a LoRA.

Knows nothing of ComfyUI; usable from Python and from the command line (``gdro-comfy --help``).
"""

__version__ = "0.1.0"
