"""How a stage of the work declares itself: its inputs, once, for ComfyUI's nodes and for the console."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..host import Host

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True)
class Input:
    """One input of a stage.

    Args:
        name: its id, for ever: saved workflows carry it.
        type: ComfyUI's name of the type ("INT", "COMBO", "GDRO_MODEL", ...). "DYNAMIC" is a choice
            with inputs of its own: the value is a dict with the choice under this input's name.
            "GROW" is any number of connections, from ``minimum`` to ``maximum`` (at most 100): the
            value is a dict with the keys <name of grows>0, <name of grows>1, ...
        default: used where the input is left out; MISSING where it must be given.
        optional: may be left out; the stage then gets None, unless there is a default.
        minimum, maximum, step: of numbers.
        options: of a COMBO.
        listing: gives the options of a COMBO that depend on what is installed.
        files: a COMBO of the host's files of this kind; ``options``, where there are any, come first.
        choices: of a DYNAMIC, the inputs that come with each choice.
        grows: of a GROW, what each of its connections is.
        advanced: folded away in the canvas.
        is_list: the stage gets the whole ComfyUI list of this input, instead of running once for
            each of its values. The other inputs of such a stage must have one value.
    """

    name: str
    type: str
    tooltip: str = ""
    default: Any = MISSING
    optional: bool = False
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    options: tuple[str, ...] | None = None
    listing: Callable[[], Sequence[str]] | None = None
    files: str | None = None
    choices: dict[str, tuple[Input, ...]] | None = None
    grows: Input | None = None
    multiline: bool = False
    advanced: bool = False
    is_list: bool = False
    label: str = ""

    @property
    def holds_list(self) -> bool:
        """Whether it, or one of the inputs that come with its choices, is a list."""
        inner = [item for items in (self.choices or {}).values() for item in items]
        return self.is_list or any(item.holds_list for item in inner)


@dataclass(frozen=True)
class Output:
    """One output of a stage. With ``is_list`` the stage gives a list, and whatever is connected to it
    runs once for each of its values."""

    name: str
    type: str
    tooltip: str = ""
    is_list: bool = False


@dataclass(frozen=True)
class Stage:
    """A stage of the work: the node's words, its inputs and outputs, and the function behind it.

    ``run(host, **inputs)`` returns a tuple, one value for each output. ``preview`` names the IMAGE
    output that a canvas shows on the node. ``watches`` are files in the folders of runs: a change of one
    makes the stage run again.
    """

    run: Callable[..., tuple[Any, ...]]
    title: str
    description: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    output_node: bool = False
    preview: str | None = None
    aliases: tuple[str, ...] = field(default=())
    watches: tuple[str, ...] = ()

    @property
    def takes_lists(self) -> bool:
        """Whether it runs once, on whole lists. ComfyUI then gives every input as a list."""
        return any(declared.holds_list for declared in self.inputs)

    def __call__(self, host: Host, **inputs: Any) -> tuple[Any, ...]:
        return self.run(host, **inputs)
