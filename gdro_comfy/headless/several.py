"""One workflow in several processes: what they share, which device each has, and how they end."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..distributed import World, launched_size
from ..errors import InputError
from .console_host import ConsoleHost

if TYPE_CHECKING:
    import torch
    from PIL import Image

log = logging.getLogger(__name__)


class SharedHost(ConsoleHost):
    """The host of one of several processes: only the main one shows progress, and all end together.

    Args:
        world: the processes.
        output_dir, quiet, input_dir: as for ``ConsoleHost``.
    """

    def __init__(
        self, world: World, output_dir: Path, quiet: bool = False, input_dir: Path | None = None
    ) -> None:
        super().__init__(output_dir, quiet or not world.is_main, input_dir)
        self._world = world

    def progress(
        self, value: int, total: int, stage: str = "", preview: Image.Image | None = None
    ) -> None:
        own = f"{stage.partition(', about ')[0]} (1 of {self._world.size} processes)"
        super().progress(value, total, own, preview)

    def cancel(self) -> None:
        super().cancel()
        self._world.stop()

    def check_cancelled(self) -> None:
        super().check_cancelled()
        self._world.check()

    def emit(self, event: str, payload: Mapping[str, object]) -> None:
        if self._world.is_main:
            super().emit(event, payload)

    def device(self) -> torch.device:
        """Return the GPU of this process: each on a computer has its own.

        Raises:
            InputError: more processes than GPUs were started on this computer.
        """
        import torch

        device = super().device()
        if device.type == "cuda":
            torch.cuda.set_device(own_gpu(torch.cuda.device_count()))
        return device


def own_gpu(count: int, environment: Mapping[str, str] = os.environ) -> int:
    """Return the number of the GPU of this process.

    Args:
        count: GPUs that it sees. A scheduler may show each process only its own.

    Raises:
        InputError: there are fewer than processes on this computer.
    """
    rank, here = (
        int(environment.get(name, default))
        for name, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    if rank < count and here <= count:
        return rank
    if count == 1 and "SLURM_LOCALID" in environment:
        return 0
    raise InputError(
        "launcher",
        f"{here} processes were started on this computer, and this one sees {count} GPUs",
        "Start one process for each GPU.",
    )


def check_asked(command: str, groups_only: bool, check: bool) -> None:
    """Refuse what one process alone can do, before any work.

    Raises:
        InputError: a launcher started several processes for it.
    """
    size = launched_size()
    if size == 1 or check or (command == "run" and groups_only):
        return
    raise InputError(
        "--groups-only",
        f"{size} processes were started, and only sampling and scoring groups can be shared among them",
        "Add --groups-only to gdro-comfy run, and let them finish. Then run the same command once more with "
        "one process and without --groups-only: it finds the groups and scores, and trains and evaluates.",
    )
