"""Run by ComfyUI's Python in its checkout: load the pack as ComfyUI does, and say what came with it.

python loading.py PACK BASE_DIRECTORY     (prints one line of JSON last)
"""

import asyncio
import json
import sys
import time

pack, base = sys.argv[1:3]
sys.argv = ["main.py", "--cpu", "--base-directory", base]
sys.path.insert(0, "")

import main  # noqa: E402, F401  (ComfyUI's own: everything that a start imports)

import nodes  # noqa: E402


async def load() -> dict:
    before = set(sys.modules)
    started = time.process_time()
    loaded = await nodes.load_custom_node(pack)
    seconds = time.process_time() - started
    found = {"loaded": loaded, "seconds": seconds, "modules": sorted(set(sys.modules) - before)}
    # Python's way to make the import of a library fail as if it were not installed:
    sys.modules["diffusers"] = None
    node = nodes.NODE_CLASS_MAPPINGS["GDRO_LoadBaseModel"].PREPARE_CLASS_CLONE(
        {"hidden_inputs": {}}
    )
    try:
        node.execute(source={"source": "bundled", "model": "tiny SD3"}, dtype="auto")
    except Exception as error:
        found["without_diffusers"] = str(error)
    return found


print()
print(json.dumps(asyncio.run(load())))
