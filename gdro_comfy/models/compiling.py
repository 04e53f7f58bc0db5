"""The repeated blocks of a network through ``torch.compile``: they are compiled once, and serve in each."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ..errors import InputError

log = logging.getLogger(__name__)


def check(device: torch.device) -> None:
    """Compile something small.

    Raises:
        InputError: torch cannot compile here, as where there is no C++ compiler or no Triton.
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
def blocks(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Within this context what stands in the network's lists of modules is compiled, at its first call."""
    check(device)
    log.info("torch compiles the model's blocks: the first steps take longer")
    lists = [child for child in network.children() if isinstance(child, nn.ModuleList)]
    found = [block for blocks in lists for block in blocks]
    try:
        for block in found:
            block.forward = torch.compile(block.forward)
        yield
    finally:
        for block in found:
            vars(block).pop("forward", None)
