"""Exceptions that the user can act on; their messages say how."""

from __future__ import annotations

import sys


class InputError(ValueError):
    """An input that cannot be used.

    Args:
        input_name: the node's input (or command-line option) to change.
        found: what is wrong with it.
        remedy: what is allowed, and what to do.
    """

    def __init__(self, input_name: str, found: str, remedy: str) -> None:
        self.input_name, self.found, self.remedy = input_name, found, remedy
        super().__init__(f"{input_name}: {found}. {remedy}")


class WaitingForUser(InputError):
    """Work that only the user can do, such as rating images, has to come first.

    ComfyUI skips the nodes that depend on it and does not count this as a failure; elsewhere the run
    stops here.

    Args:
        input_name, found, remedy: as in ``InputError``.
        note: the text that the node shows.
    """

    def __init__(self, input_name: str, found: str, remedy: str, note: str) -> None:
        super().__init__(input_name, found, remedy)
        self.note = note


def install_command(*packages: str) -> str:
    """Return the command that installs packages into the Python that runs this, such as ComfyUI's."""
    return f'"{sys.executable}" -m pip install {" ".join(packages)}'
