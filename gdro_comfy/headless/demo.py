"""The demo: run the shipped quickstart workflow, and say whether the reward rose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from . import workflow

if TYPE_CHECKING:
    from torch import Tensor

    from ..host import Host

QUICKSTART = Path(__file__).parents[2] / "workflows" / "quickstart.json"


def run(host: Host, overrides: Sequence[str] = ()) -> bool:
    """Run ``workflows/quickstart.json``, and print its table and the files it made.

    Args:
        overrides: changed inputs, as ``NODE.INPUT=VALUE``.

    Returns:
        Whether the reward rose on held-out prompts by more than 1.96 standard errors.
    """
    if not QUICKSTART.is_file():
        raise InputError(
            "demo",
            f"{QUICKSTART} does not exist",
            "Install the pack from its source folder: pip install -e '.[demo]'.",
        )
    graph = workflow.load(QUICKSTART)
    for override in overrides:
        workflow.override(graph, override)
    outputs = workflow.run(graph, host)

    def outputs_of(class_type: str) -> list[tuple]:
        return [outputs[key] for key, node in graph.items() if node.class_type == class_type]

    rose = True
    for picture, table, gain, error, _, report in outputs_of("GDRO_EvaluateAlignment"):
        print(f"\n{table}\n\nbefore and after  {_save(host, picture)}\nreport            {report}")
        rose = rose and gain > 1.96 * error
    for trained in outputs_of("GDRO_TrainLoRA"):
        print(f"LoRA              {trained[0].path}")
    return rose


def _save(host: Host, picture: Tensor) -> Path:
    from ..data.files import write_png
    from ..imaging import to_pil

    path = host.output_dir / "before_after.png"
    write_png(path, to_pil(picture)[0])
    return path
