"""Make room for a reward's networks where the device's memory runs out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .base import Reward, RewardError, RewardResult, active

if TYPE_CHECKING:
    from PIL import Image

    from ..data.prompts import Prompt

log = logging.getLogger(__name__)

MakeRoom = Callable[[], None]
"""Moves off the device what is not needed while a reward scores; it returns when it is next needed."""


@contextlib.contextmanager
def active_with_room(reward: Reward, make_room: MakeRoom | None) -> Iterator[None]:
    """Enter ``active(reward)``; where its networks do not fit on the device, make room and try again."""
    with contextlib.ExitStack() as stack:
        needed: MakeRoom | None = None
        try:
            stack.enter_context(active(reward))
        except Exception as error:
            if make_room is None or not _is_out_of_memory(error):
                raise
            needed = make_room
        if needed is not None:  # out here, so that the traceback's tensors are gone
            log.warning("out of memory while loading %s: the model leaves the device", reward.name)
            needed()
            _empty_caches()
            stack.enter_context(active(reward))
        yield


def score(
    reward: Reward,
    images: Sequence[Image.Image],
    prompts: Sequence[Prompt],
    check_cancelled: Callable[[], None],
    make_room: MakeRoom | None = None,
) -> RewardResult:
    """Score images, fewer at once where the device's memory runs out.

    A single image that does not fit is tried again after ``make_room``.

    Raises:
        InputError: not even one image fits.
    """
    parts: list[RewardResult] = []
    start, at_once, roomy = 0, len(images), make_room is None
    while start < len(images):
        part = slice(start, start + at_once)
        try:
            parts.append(reward.score(images[part], prompts[part], check_cancelled))
        except Exception as error:
            if not _is_out_of_memory(error):
                raise
            failed = str(error).splitlines()[0]
        else:
            start += at_once
            continue
        _empty_caches()
        if at_once > 1:
            at_once //= 2
            log.warning("out of memory while scoring: going on with %d images at once", at_once)
        elif make_room is not None and not roomy:
            make_room()
            _empty_caches()
            roomy = True
            log.warning("out of memory while scoring: the model leaves the device")
        else:
            raise InputError(
                "reward",
                f"not even one image fits into the device's memory while {reward.name} scores ({failed})",
                "Choose a smaller network or the device cpu for it, or close what else uses the device.",
            )
    return _joined(parts)


def _joined(parts: Sequence[RewardResult]) -> RewardResult:
    if len(parts) == 1:
        return parts[0]
    left_out = [
        np.zeros(len(part.values), bool) if part.left_out is None else part.left_out
        for part in parts
    ]
    details = [
        detail for part in parts for detail in part.details or [{} for _ in range(len(part.values))]
    ]
    return RewardResult(
        np.concatenate([part.values for part in parts]),
        details if any(part.details for part in parts) else [],
        np.concatenate(left_out) if any(part.left_out is not None for part in parts) else None,
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether this process's device is out of memory; a judge's server may say so of its own."""
    from ..models.device_memory import is_out_of_memory

    return is_out_of_memory(error) and not isinstance(error, (InputError, RewardError))


def _empty_caches() -> None:
    import torch

    from ..models.device_memory import empty_cache

    for kind in ("cuda", "xpu", "mps"):
        if getattr(torch, kind).is_available():
            empty_cache(torch.device(kind))
