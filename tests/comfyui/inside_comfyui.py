"""Make ComfyUI and the pack importable in a script of ComfyUI's Python, run in its checkout.

The first argument is the pack's folder; ``arguments`` are the others.
"""

import os
import sys
import types

pack, *arguments = sys.argv[1:]
sys.argv = [sys.argv[0], "--cpu", "--use-pytorch-cross-attention"]  # the attention of GPUs
sys.path.insert(0, os.getcwd())

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

# The pack without its server routes: nodes/__init__.py needs a running ComfyUI.
for name, folder in (("gdro_pack", pack), ("gdro_pack.nodes", os.path.join(pack, "nodes"))):
    package = types.ModuleType(name)
    package.__path__ = [folder]
    sys.modules[name] = package
sys.path.append(os.path.join(pack, "tests", "support"))
