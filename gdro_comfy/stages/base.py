"""A stage: one declaration of a node for ComfyUI, the console, the help pages and the translations.

The words are those of ComfyUI's V3 schema where it has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..host import Host

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


@dataclass(frozen=True)
class Input:
    """One input of a stage.

    Args:
        name: the id. It never changes, because saved workflows contain it.
        type: ComfyUI's name of the type ("INT", "COMBO", "GDRO_MODEL", ...). The value of a
            "DYNAMICCOMBO" is a dict: the choice under the input's own name, and the inputs of that
            choice. The value of an "AUTOGROW" is a dict too: from ``min`` to ``max`` connections (100
            at most) under the template's name and a number from 0.
        default: the value if the input is left out; MISSING if it is required.
        optional: whether the input may be left out. The stage then gets the default, or None.
        min, max, step: the range of a number.
        options: the choices of a COMBO.
        listing: returns further choices of a COMBO, which depend on what is installed.
        files: the kind of the host's files that a COMBO lists after ``options``.
        choices: the choices of a DYNAMICCOMBO, and the inputs of each.
        template: the connections of an AUTOGROW.
        advanced: whether the canvas hides the input until the user shows the advanced ones.
        canvas: what else the canvas is told of the input, as JSON; our own scripts read it.
        is_list: whether the stage gets the whole list on this input, instead of running once for each
            item. All its other inputs must then have a single value.
    """

    name: str
    type: str
    tooltip: str = ""
    default: Any = MISSING
    optional: bool = False
    min: float | None = None
    max: float | None = None
    step: float | None = None
    options: tuple[str, ...] | None = None
    listing: Callable[[], Sequence[str]] | None = None
    files: str | None = None
    choices: dict[str, tuple[Input, ...]] | None = None
    template: Input | None = None
    multiline: bool = False
    advanced: bool = False
    canvas: dict[str, Any] | None = None
    is_list: bool = False

    @property
    def holds_list(self) -> bool:
        """Whether this input, or one that belongs to its choices, takes a list."""
        inner = [item for items in (self.choices or {}).values() for item in items]
        return self.is_list or any(item.holds_list for item in inner)


@dataclass(frozen=True)
class Output:
    """One output of a stage.

    If ``is_list``, the stage returns a list, and connected nodes run once for each item.
    """

    name: str
    type: str
    tooltip: str = ""
    is_list: bool = False


@dataclass(frozen=True)
class Stage:
    """A node: its texts, inputs and outputs, and the function that does its work.

    Args:
        run: ``run(host, **inputs)`` returns a tuple with one value for each output.
        is_output_node: whether a workflow may end here.
        preview: the IMAGE output that the canvas shows on the node.
        search_aliases: other words under which the node can be found.
        watches: names of files in run folders; the stage runs again if one of them changes.
        category: the node menu below "GDRO".
        check: raises ``InputError`` for what is known to be refused, such as a missing library or two
            settings of linked nodes that do not fit; called with the node as ``before_work.Planned``, before
            anything of the graph runs.
        settings_only: whether ``run`` only puts its settings together, without work or network, and so may
            run in the check of another node.
    """

    run: Callable[..., tuple[Any, ...]]
    display_name: str
    description: str
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    is_output_node: bool = False
    preview: str | None = None
    search_aliases: tuple[str, ...] = ()
    watches: tuple[str, ...] = ()
    category: str = ""
    check: Callable[[Any], None] | None = None
    settings_only: bool = False

    @property
    def takes_lists(self) -> bool:
        """Whether the stage runs once on whole lists. ComfyUI then passes every input as a list."""
        return any(declared.holds_list for declared in self.inputs)

    def __call__(self, host: Host, **inputs: Any) -> tuple[Any, ...]:
        return self.run(host, **inputs)
