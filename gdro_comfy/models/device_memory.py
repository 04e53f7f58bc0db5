"""One rule for every stage where the device's memory runs out: fewer at once, then alone, then a refusal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import torch

from ..errors import InputError

if TYPE_CHECKING:
    from .base import FlowModel

log = logging.getLogger(__name__)

R = TypeVar("R")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device has no memory left; Apple's has no class of its own."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "out of memory" in str(error).lower()
    )


def free_bytes(device: torch.device) -> int | None:
    """Return how many bytes PyTorch may still allocate on a device; None if the device cannot tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "xpu":
        free, _ = torch.xpu.mem_get_info(device)
        return int(free + torch.xpu.memory_reserved(device) - torch.xpu.memory_allocated(device))
    if device.type == "mps":
        most = torch.mps.recommended_max_memory()
        return int(most - torch.mps.driver_allocated_memory())
    return None


def empty_cache(device: torch.device) -> None:
    """Return what PyTorch keeps for itself to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "xpu":
        torch.xpu.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def in_parts(
    model: FlowModel, work: Callable[[slice], R], count: int, at_once: int, what: str
) -> Iterator[R]:
    """Work on ``count`` items, at most ``at_once`` in a call, and on fewer where memory runs out.

    A single item that does not fit is tried again after all components have left the device.

    Args:
        work: on a slice of the items; may be called again for items at which it failed.
        at_once: 1 or more.
        what: the work, for messages, as "decoding".

    Raises:
        InputError: not even one item fits.
    """
    start, released = 0, False
    while start < count:
        part = slice(start, min(count, start + at_once))
        try:
            result = work(part)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            # Left here, so that the traceback's tensors are gone before the next try.
            failed = str(error).splitlines()[0]
        else:
            yield result
            start = part.stop
            continue
        empty_cache(model.device)
        if at_once > 1:
            at_once = max(1, min(at_once, part.stop - start) // 2)
            log.warning("out of memory while %s: going on with %d at once", what, at_once)
        elif not released:
            model.release()
            released = True
            log.warning("out of memory while %s: everything else leaves the device", what)
        else:
            raise InputError(
                "model",
                f"not even one image fits into the device's memory while {what} ({failed})",
                "Use smaller pictures, a smaller file or quantization of the model, or close what else uses "
                "the device.",
            )
