"""A stage's inputs: from the flat names of a workflow file to checked arguments of the stage.

ComfyUI writes the inputs of a choice as "algorithm" and "algorithm.beta", and those that grow as
"rewards.reward0"; a stage gets ``algorithm={"algorithm": "gdro", "beta": 5}`` and
``rewards={"reward0": ...}``, as ComfyUI's V3 nodes do.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import InputError
from .base import MISSING, Input

WIDGETS = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "DYNAMIC"})
"""Types that have a value on the node itself; the others come over a connection only."""

LATER: Any = type("Later", (), {"__repr__": lambda self: "LATER"})()
"""Stands for a value that another node will give; it passes every check."""


def active(
    declared: Sequence[Input], flat: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Input]]:
    """Flat name and declaration of each input, those of the present choices included.

    In the order in which ComfyUI puts the widgets on a node: optional ones last, the inputs of a
    choice after it. ``flat`` is looked at as late as possible, so that it may grow meanwhile.
    """
    for item in sorted(declared, key=lambda item: item.optional):
        key = prefix + item.name
        yield key, item
        choice = flat.get(key) if item.type == "DYNAMIC" else None
        if isinstance(choice, str):
            yield from active((item.choices or {}).get(choice, ()), flat, f"{key}.")
        if item.grows is not None:
            for name in [name for name in flat if name.startswith(f"{key}.")]:
                yield name, item.grows


def nest(declared: Sequence[Input], flat: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Gather dotted names into dicts. Names that are not declared are left out."""
    nested: dict[str, Any] = {}
    for item in declared:
        key = prefix + item.name
        if item.type == "DYNAMIC":
            if key in flat:
                choice = flat[key]
                chosen = (item.choices or {}).get(choice, ()) if isinstance(choice, str) else ()
                nested[item.name] = {item.name: choice, **nest(chosen, flat, f"{key}.")}
        elif key in flat:
            nested[item.name] = flat[key]
        else:
            grown = {k[len(key) + 1 :]: v for k, v in flat.items() if k.startswith(f"{key}.")}
            if grown:
                nested[item.name] = grown
    return nested


def complete(
    declared: Sequence[Input], given: Mapping[str, Any], prefix: str = ""
) -> dict[str, Any]:
    """Arguments for a stage: defaults filled in, every value checked.

    Args:
        declared: the stage's inputs.
        given: values by name, choices nested; None counts as not given.
        prefix: put before names in messages.

    Raises:
        InputError: a value is missing, of another type, out of range, or not among the options.
    """
    full: dict[str, Any] = {}
    for item in declared:
        value = given.get(item.name)
        if value is None and item.default is not MISSING:
            value = item.default
        if value is None or value is LATER:
            if value is None and not item.optional:
                raise _missing(item, prefix + item.name)
            full[item.name] = value
        elif item.type == "GROW":
            full[item.name] = _grown(item, value, prefix + item.name)
        elif item.is_list:
            full[item.name] = value if isinstance(value, list) else [value]
        elif item.type == "DYNAMIC":
            full[item.name] = _choice(item, value, prefix + item.name)
        else:
            full[item.name] = _value(item, value, prefix + item.name)
    return full


def unlist(declared: Sequence[Input], given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What a stage that takes lists was given, every value in a list, as its function expects it:
    lists where they are declared, else the one value.

    Raises:
        InputError: there are several values where the stage takes one.
    """
    plain: dict[str, Any] = {}
    for item in declared:
        if item.name not in given:
            continue
        value, key = given[item.name], prefix + item.name
        if item.grows is not None:
            inner = tuple(replace(item.grows, name=name) for name in value)
            plain[item.name] = unlist(inner, value, f"{key}.")
        elif isinstance(value, Mapping):
            choice = value.get(item.name)
            name = choice[0] if isinstance(choice, list) and choice else choice
            inner = (item.choices or {}).get(name, ()) if isinstance(name, str) else ()
            plain[item.name] = {item.name: name, **unlist(inner, value, f"{key}.")}
        elif item.is_list or not isinstance(value, list):
            plain[item.name] = None if value == [None] else value
        elif len(value) == 1 or (value and all(one is value[0] for one in value)):
            plain[item.name] = value[0]
        else:
            raise InputError(
                key, f"{len(value)} values came in a list", "Connect an output that gives one."
            )
    return plain


def _missing(item: Input, key: str) -> InputError:
    if item.type in WIDGETS:
        return InputError(key, "no value is given", f"Set it to {_allowed(item)}.")
    return InputError(
        key,
        "nothing is connected",
        f"Connect an output of type {(item.grows or item).type}. A muted node gives nothing.",
    )


def _allowed(item: Input) -> str:
    if item.type == "BOOLEAN":
        return "true or false"
    if item.type in ("COMBO", "DYNAMIC"):
        options = item.options if item.type == "COMBO" else tuple(item.choices or ())
        kind = "a name from the list" if item.listing else "the name of a file"
        return f"one of: {', '.join(options)}" if options else kind
    if item.type not in ("INT", "FLOAT"):
        return "text"
    kind = "a whole number" if item.type == "INT" else "a number"
    if item.minimum is not None and item.maximum is not None:
        return f"{kind} from {item.minimum} to {item.maximum}"
    if item.minimum is not None:
        return f"{kind}, {item.minimum} or more"
    return kind if item.maximum is None else f"{kind}, {item.maximum} or less"


def _choice(item: Input, value: Any, key: str) -> dict[str, Any]:
    given = value if isinstance(value, Mapping) else {item.name: value}
    choice, choices = given.get(item.name), item.choices or {}
    if not isinstance(choice, str) or choice not in choices:
        raise _wrong(item, choice, key)
    return {item.name: choice, **complete(choices[choice], given, f"{key}.")}


def _grown(item: Input, value: Any, key: str) -> dict[str, Any]:
    assert item.grows is not None
    given = value if isinstance(value, Mapping) else {}
    connected = {name: one for name, one in given.items() if one is not None}
    if not (item.minimum or 0) <= len(connected) <= (item.maximum or 100):
        raise InputError(
            key,
            f"{len(connected)} are connected",
            f"Connect from {item.minimum:g} to {item.maximum:g} outputs of type {item.grows.type}.",
        )
    return connected


def _value(item: Input, value: Any, key: str) -> Any:
    if item.type in ("INT", "FLOAT"):
        number = _number(value, whole=item.type == "INT")
        if (
            number is None
            or (item.minimum is not None and number < item.minimum)
            or (item.maximum is not None and number > item.maximum)
        ):
            raise _wrong(item, value, key)
        return number
    if item.type == "BOOLEAN":
        if not isinstance(value, bool) and value not in (0, 1):
            raise _wrong(item, value, key)
        return bool(value)
    if item.type == "STRING" and isinstance(value, (int, float)):
        return str(value)
    text = item.type in ("STRING", "COMBO")
    known = item.options if item.options and not item.files else (value,)
    if text and not (isinstance(value, str) and value in known):
        raise _wrong(item, value, key)
    return value


def _number(value: Any, whole: bool) -> int | float | None:
    """The number that ComfyUI would read, or None; it would also cut 2.7 down to 2, we do not."""
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
    return InputError(key, f"{shown} does not fit", f"It has to be {_allowed(item)}.")
