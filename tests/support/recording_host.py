"""A host for tests."""

from __future__ import annotations

from pathlib import Path

from gdro_comfy.headless.console_host import ConsoleHost
from gdro_comfy.progress import Cancelled


class RecordingHost(ConsoleHost):
    """A quiet console host that records progress and events, and can cancel.

    Args:
        cancel_after: number of cancellation checks that pass; None never cancels.
    """

    def __init__(self, output_dir: Path, cancel_after: int | None = None) -> None:
        super().__init__(output_dir, quiet=True)
        self.reports: list[tuple[str, int, int]] = []
        self.events: list[tuple[str, dict]] = []
        self.previews = 0
        self.checks = 0
        self.cancel_after = cancel_after

    def progress(self, value, total, stage="", preview=None):
        self.reports.append((stage, value, total))
        self.previews += preview is not None

    def emit(self, event, payload):
        self.events.append((event, dict(payload)))

    def check_cancelled(self):
        self.checks += 1
        if self.cancel_after is not None and self.checks > self.cancel_after:
            raise Cancelled
