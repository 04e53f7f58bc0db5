"""What a long loop needs from its surroundings: report progress, and stop when asked to.

Call ``check_cancelled`` in every iteration: reporting progress alone never stops anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image


class Cancelled(Exception):
    """The user stopped the run. Everything finished before is on disk."""


class Progress(Protocol):
    """Report progress, look for cancellation, publish events."""

    def progress(
        self, value: int, total: int, stage: str = "", preview: Image.Image | None = None
    ) -> None:
        """Report that ``value`` of ``total`` steps of ``stage`` are done.

        Args:
            stage: what is being done; an estimate of the time left follows ", about ".
            preview: an image to show with it.
        """
        ...

    def check_cancelled(self) -> None:
        """Raise if the user has asked to stop; return at once otherwise."""
        ...

    def emit(self, event: str, payload: Mapping[str, object]) -> None:
        """Publish an event, such as one training step, to whoever listens."""
        ...
