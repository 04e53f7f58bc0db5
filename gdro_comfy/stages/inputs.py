"""Turn the flat inputs of a workflow file into checked arguments of a stage.

ComfyUI names the inputs of a choice "algorithm" and "algorithm.beta", and those of an AUTOGROW
"rewards.reward0". A stage gets ``algorithm={"algorithm": "gdro", "beta": 5}`` and
``rewards={"reward0": ...}``, like ComfyUI's V3 nodes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from .base import MISSING, Input

WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "DYNAMICCOMBO"})
"""Types whose value can be set on the node; all others need a connection."""

LATER: Any = type("Later", (), {"__repr__": lambda self: "LATER"})()
"""Stands for the output of a node that has not run yet; passes every check."""


def active(
    declared: Sequence[Input], flat: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Input]]:
    """Yield the flat name and declaration of each input, with those of the current choices.

    The order is that of ComfyUI's widgets on a node: optional inputs last, the inputs of a choice after
    it. ``flat`` is read lazily, so a caller may add values while iterating.
    """
    for item in sorted(declared, key=lambda item: item.optional):
        key = prefix + item.name
        yield key, item
        choice = flat.get(key) if item.type == "DYNAMICCOMBO" else None
        if isinstance(choice, str):
            yield from active((item.choices or {}).get(choice, ()), flat, f"{key}.")
        if item.template is not None:
            for name in [name for name in flat if name.startswith(f"{key}.")]:
                yield name, item.template


def nest(declared: Sequence[Input], flat: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Collect dotted names into dicts, and drop names that are not declared."""
    nested: dict[str, Any] = {}
    for item in declared:
        key = prefix + item.name
        if item.type == "DYNAMICCOMBO":
            if key in flat:
                choice = flat[key]
                chosen = (item.choices or {}).get(choice, ()) if isinstance(choice, str) else ()
                nested[item.name] = {item.name: choice, **nest(chosen, flat, f"{key}.")}
        elif key in flat:
            nested[item.name] = flat[key]
        else:
            connected = {k[len(key) + 1 :]: v for k, v in flat.items() if k.startswith(f"{key}.")}
            if connected:
                nested[item.name] = connected
    return nested


def complete(
    declared: Sequence[Input], values: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Check every value, and fill in the defaults.

    Args:
        declared: the stage's inputs.
        values: nested values by name; None counts as left out.
        prefix: what precedes the names in messages.

    Raises:
        InputError: a value is missing, of another type, out of range, or not among the options.
    """
    arguments: dict[str, Any] = {}
    for item in declared:
        value = values.get(item.name)
        if value is None and item.default is not MISSING:
            value = item.default
        if value is None or value is LATER:
            if value is None and not item.optional:
                raise _missing(item, prefix + item.name)
            arguments[item.name] = value
        elif item.type == "AUTOGROW":
            arguments[item.name] = _connections(item, value, prefix + item.name)
        elif item.is_list:
            arguments[item.name] = value if isinstance(value, list) else [value]
        elif item.type == "DYNAMICCOMBO":
            arguments[item.name] = _choice(item, value, prefix + item.name)
        else:
            arguments[item.name] = _value(item, value, prefix + item.name)
    return arguments


def unlist(
    declared: Sequence[Input], values: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Unwrap the inputs of a stage that takes lists, which ComfyUI passes as lists without exception.

    Inputs that are declared as lists stay lists; the others become their single value.

    Raises:
        InputError: an input that takes one value got several.
    """
    plain: dict[str, Any] = {}
    for item in declared:
        if item.name not in values:
            continue
        value, key = values[item.name], prefix + item.name
        if item.template is not None:
            inner = tuple(replace(item.template, name=name) for name in value)
            plain[item.name] = unlist(inner, value, f"{key}.")
        elif isinstance(value, Mapping):
            choice = value.get(item.name)
            name = choice[0] if isinstance(choice, list) and choice else choice
            inner = (item.choices or {}).get(name, ()) if isinstance(name, str) else ()
            plain[item.name] = {item.name: name, **unlist(inner, value, f"{key}.")}
        elif item.is_list or not isinstance(value, list):
            plain[item.name] = None if value == [None] else value
        elif len(value) == 1 or (value and all(other is value[0] for other in value)):
            plain[item.name] = value[0]
        else:
            raise InputError(
                key, f"{len(value)} values came in a list", "Connect an output with one value."
            )
    return plain


def _missing(item: Input, key: str) -> InputError:
    if item.type in WIDGETS:
        return InputError(key, "no value is given", f"Set it to {_allowed(item)}.")
    return InputError(
        key,
        "nothing is connected",
        f"Connect an output of type {(item.template or item).type}. A muted node has no output.",
    )


def _allowed(item: Input) -> str:
    if item.type == "BOOLEAN":
        return "true or false"
    if item.type in ("COMBO", "DYNAMICCOMBO"):
        options = item.options if item.type == "COMBO" else tuple(item.choices or ())
        kind = "a name from the list" if item.listing else "the name of a file"
        return f"one of: {', '.join(options)}" if options else kind
    if item.type not in ("INT", "FLOAT"):
        return "text"
    kind = "a whole number" if item.type == "INT" else "a number"
    if item.min is not None and item.max is not None:
        return f"{kind} from {item.min} to {item.max}"
    if item.min is not None:
        return f"{kind}, {item.min} or more"
    return kind if item.max is None else f"{kind}, {item.max} or less"


def _choice(item: Input, value: Any, key: str) -> dict[str, Any]:
    values = value if isinstance(value, Mapping) else {item.name: value}
    choice, choices = values.get(item.name), item.choices or {}
    if not isinstance(choice, str) or choice not in choices:
        raise _wrong(item, choice, key)
    return {item.name: choice, **complete(choices[choice], values, f"{key}.")}


def _connections(item: Input, value: Any, key: str) -> dict[str, Any]:
    assert item.template is not None
    values = value if isinstance(value, Mapping) else {}
    connected = {name: source for name, source in values.items() if source is not None}
    if not (item.min or 0) <= len(connected) <= (item.max or 100):
        raise InputError(
            key,
            f"{len(connected)} are connected",
            f"Connect from {item.min:g} to {item.max:g} outputs of type {item.template.type}.",
        )
    return connected


def _value(item: Input, value: Any, key: str) -> Any:
    if item.type in ("INT", "FLOAT"):
        number = _number(value, whole=item.type == "INT")
        if (
            number is None
            or (item.min is not None and number < item.min)
            or (item.max is not None and number > item.max)
        ):
            raise _wrong(item, value, key)
        return number
    if item.type == "BOOLEAN":
        if not isinstance(value, bool) and value not in (0, 1):
            raise _wrong(item, value, key)
        return bool(value)
    if item.type == "STRING" and isinstance(value, (int, float)):
        return str(value)
    is_text = item.type in ("STRING", "COMBO")
    allowed = item.options if item.options and not item.files else (value,)
    if is_text and not (isinstance(value, str) and value in allowed):
        raise _wrong(item, value, key)
    return value


def _number(value: Any, whole: bool) -> int | float | None:
    """Return the number that ComfyUI would read, or None. ComfyUI also truncates 2.7; we do not."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        if whole and not isinstance(value, float):
            return int(value)
        number = float(value)
    except (ValueError, OverflowError):
        return None
    if not math.isfinite(number) or (whole and not number.is_integer()):
        return None
    return int(number) if whole else number


def _wrong(item: Input, value: Any, key: str) -> InputError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return InputError(key, f"{shown} does not fit", f"It must be {_allowed(item)}.")
