"""Exceptions that mean: the user can put this right, and the message says how."""

from __future__ import annotations


class InputError(ValueError):
    """Something the user gave does not fit.

    Args:
        input_name: the node's input (or command-line option) that has to change.
        found: what was found there.
        remedy: what is allowed, and what to do.
    """

    def __init__(self, input_name: str, found: str, remedy: str) -> None:
        self.input_name, self.found, self.remedy = input_name, found, remedy
        super().__init__(f"{input_name}: {found}. {remedy}")


class NotYet(InputError):
    """Something is waited for that only the user can do. In ComfyUI the nodes behind are left out, which
    is no failure; elsewhere the work ends here.

    ``note`` is what the node shows.
    """

    def __init__(self, input_name: str, found: str, remedy: str, note: str) -> None:
        super().__init__(input_name, found, remedy)
        self.note = note
