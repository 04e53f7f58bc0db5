"""The repeated blocks of a network through ``torch.compile``; blocks of one structure share a graph."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import InputError

log = logging.getLogger(__name__)


def check(device: torch.device) -> None:
    """Compile a small function for the device.

    Raises:
        InputError: torch cannot compile, for example for lack of a C++ compiler or of Triton.
    """
    try:
        torch.compile(lambda x: x * 2 + 1)(torch.zeros(8, device=device))
    except Exception as error:  # those of dynamo and its backends share no base class
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise InputError(
            "torch_compile",
            f"torch cannot compile here: {lines[0] if lines else type(error).__name__}",
            "Turn it off; or install Triton (for an NVIDIA card) or a C++ compiler (for the CPU).",
        ) from error


@contextmanager
def compiled_blocks(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Compile the modules in the network's module lists within this context, each at its first call.

    Raises:
        InputError: torch cannot compile.
    """
    check(device)
    log.info("torch compiles the model's blocks: the first steps take longer")
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    blocks = [block for modules in lists for block in modules]
    try:
        for block in blocks:
            block.forward = torch.compile(block.forward)
        yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)
