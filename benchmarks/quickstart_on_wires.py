"""Run the quickstart on ComfyUI's MODEL, CLIP and VAE instead of the diffusers model.

    python benchmarks/quickstart_on_wires.py --comfyui PATH [--set NODE.INPUT=VALUE ...]

Run it with ComfyUI's Python. The bundled model goes through GDRO Model for ComfyUI and GDRO Model from
ComfyUI; everything else is ``workflows/quickstart.json``. Prints the table that ``gdro-comfy demo`` prints.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from real_size import PACK, use_comfyui


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--comfyui", type=Path, required=True, help="folder of ComfyUI")
    parser.add_argument("--set", action="append", default=[], help="as for gdro-comfy run")
    options = parser.parse_args()
    use_comfyui(options.comfyui)
    from gdro_pack.gdro_comfy.headless import workflow  # type: ignore
    from gdro_pack.gdro_comfy.headless.console_host import ConsoleHost  # type: ignore
    from gdro_pack.gdro_comfy.headless.workflow_file import Link, Node  # type: ignore
    from gdro_pack.nodes import native  # type: ignore
    from gdro_pack.nodes.wires.model import NativeFlowModel  # type: ignore

    class Host(ConsoleHost):
        def native_model(self, model):
            return native.parts(model)

        def wire_model(self, model, clip, vae):
            return NativeFlowModel(model, clip, vae)

    graph = workflow.load(PACK / "workflows" / "quickstart.json")
    for override in options.set:
        workflow.override(graph, override)
    (loader,) = (k for k, node in graph.items() if node.class_type == "GDRO_LoadBaseModel")
    for node in graph.values():
        for name, value in node.inputs.items():
            if isinstance(value, Link) and value.node_id == loader:
                node.inputs[name] = Link("wires", 0)
    graph["comfy"] = Node("comfy", "GDRO_ModelForComfyUI", "comfy", {"model": Link(loader, 0)})
    wires = {name: Link("comfy", slot) for slot, name in enumerate(("model", "clip", "vae"))}
    graph["wires"] = Node("wires", "GDRO_ModelFromWires", "wires", wires)
    start = time.perf_counter()
    # ComfyUI runs nodes in inference mode.
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        outputs = workflow.run(graph, Host(Path(folder), quiet=True))
    for key, node in graph.items():
        if node.class_type == "GDRO_EvaluateAlignment":
            print(f"{outputs[key][1]}\n\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
