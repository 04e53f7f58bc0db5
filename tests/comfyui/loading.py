"""Load the pack as ComfyUI does; report the time and the modules that it takes.

Run by ComfyUI's Python in its checkout: python loading.py PACK BASE_DIRECTORY. The last line of the output
is JSON.
"""

import asyncio
import json
import sys
import time

pack, base = sys.argv[1:3]
sys.argv = ["main.py", "--cpu", "--base-directory", base]
sys.path.insert(0, "")

import main  # noqa: E402, F401  (ComfyUI's main.py imports everything that a start does)

import nodes  # noqa: E402


async def load() -> dict:
    before = set(sys.modules)
    started = time.process_time()
    loaded = await nodes.load_custom_node(pack)
    seconds = time.process_time() - started
    report = {"loaded": loaded, "seconds": seconds, "modules": sorted(set(sys.modules) - before)}
    # Makes the import fail as if the library were not installed.
    sys.modules["diffusers"] = None
    node = nodes.NODE_CLASS_MAPPINGS["GDRO_LoadBaseModel"].PREPARE_CLASS_CLONE(
        {"hidden_inputs": {}}
    )
    try:
        node.execute(source={"source": "bundled", "model": "tiny SD3"}, dtype="auto")
    except Exception as error:
        report["without_diffusers"] = str(error)
    return report


print()
print(json.dumps(asyncio.run(load())))
