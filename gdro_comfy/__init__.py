"""The engine of ComfyUI-GDRO: groups of images, rewards, and GDRO training of a LoRA.

It does not depend on ComfyUI, and is also used from Python and the command line (``gdro-comfy --help``).
"""

__version__ = "0.1.0"
