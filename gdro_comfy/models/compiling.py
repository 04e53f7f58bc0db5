"""The repeated blocks of a network through ``torch.compile``; blocks of one structure share a graph."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from ..errors import InputError

log = logging.getLogger(__name__)

_SHAPES = 64
"""How many graphs a block may have: one for each shape, such as a length of text. Torch's own 8 are soon used
up, and from then on it runs such a block without compiling it, after a line in its log."""


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
        with _more_graphs():
            yield
    finally:
        for block in blocks:
            vars(block).pop("forward", None)


def _more_graphs() -> AbstractContextManager[None]:
    """Allow for ``_SHAPES`` graphs of a function within this context."""
    from torch._dynamo import config  # imports slowly

    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    return config.patch({name: _SHAPES})  # type: ignore[attr-defined,no-any-return]
