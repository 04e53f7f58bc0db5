"""Formulas over rewards: names, numbers, + - * /, min, max and clip, and nothing else.

A small walk over Python's syntax tree, for whole arrays at once. Nothing is evaluated that is not listed
here: no attributes, no other calls, no indexing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from ..data.quotes import excerpt
from ..errors import InputError

_OPERATORS: dict[type[ast.operator], Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
}
_MAX_LENGTH = 1000
_MAX_DEPTH = 200
"""Most operations inside each other; Python itself has no room for more than some hundreds."""

_ALLOWED = (
    "Use the names of the rewards, numbers, + - * / ( ), min(a, b), max(a, b), clip(a, 0, 1)."
)


class Formula:
    """A checked formula over ``names``.

    >>> Formula("min(a, 0.5) + b", ["a", "b"])({"a": np.array([0, 1]), "b": np.array([2, 2])})
    array([2. , 2.5])

    Raises:
        InputError: the text is not such a formula; says what is wrong.
    """

    def __init__(self, text: str, names: Sequence[str]) -> None:
        self.text = text.strip()
        if not self.text or len(self.text) > _MAX_LENGTH:
            found = f"it has more than {_MAX_LENGTH} letters" if self.text else "it is empty"
            raise InputError("formula", found, _ALLOWED)
        try:
            self._tree = ast.parse(self.text.replace("\n", " "), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise InputError(
                "formula", f"{excerpt(self.text)} is not a formula", _ALLOWED
            ) from error
        if _depth(self._tree) > _MAX_DEPTH:
            raise InputError(
                "formula", f"it has more than {_MAX_DEPTH} steps in each other", _ALLOWED
            )
        used: set[str] = set()
        self._check(self._tree, names, used)
        if not used:
            raise InputError(
                "formula", "it names no reward", f"The rewards are: {', '.join(names)}."
            )

    def __call__(self, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the formula's value for each element of the arrays.

        A division by zero gives inf or NaN, which the caller has to refuse.
        """
        with np.errstate(all="ignore"):
            return self._value(self._tree, values)

    def _check(self, node: ast.expr, names: Sequence[str], used: set[str]) -> None:
        """Raise ``InputError`` unless the node is allowed; add the names in it to ``used``."""
        operands: list[ast.expr] = []
        if isinstance(node, ast.Name):
            if node.id not in names:
                raise InputError(
                    "formula",
                    f"there is no reward {excerpt(node.id)}",
                    f"The rewards are: {', '.join(names)}.",
                )
            used.add(node.id)
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            operands = [node.left, node.right]
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            operands = [node.operand]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            function, count = node.func.id, len(node.args)
            if function not in ("min", "max", "clip"):
                raise InputError("formula", f"{function}() is not known here", _ALLOWED)
            if count != 3 if function == "clip" else count < 2:
                raise InputError("formula", f"{function}() has {count} arguments", _ALLOWED)
            operands = node.args
        elif not (isinstance(node, ast.Constant) and _is_finite_number(node.value)):
            raise InputError(
                "formula", f"{ast.unparse(node)[:60]!r} is not allowed in it", _ALLOWED
            )
        for operand in operands:
            self._check(operand, names, used)

    def _value(self, node: ast.expr, values: Mapping[str, np.ndarray]) -> np.ndarray:
        if isinstance(node, ast.Name):
            return np.asarray(values[node.id], dtype=np.float64)
        if isinstance(node, ast.Constant):
            return np.float64(node.value)  # type: ignore[arg-type, return-value]
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left, values), self._value(node.right, values)
            return _OPERATORS[type(node.op)](left, right)
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, values)
            return -value if isinstance(node.op, ast.USub) else value
        assert isinstance(node, ast.Call)
        assert isinstance(node.func, ast.Name)
        arguments = [self._value(argument, values) for argument in node.args]
        if node.func.id == "clip":
            return np.minimum(np.maximum(arguments[0], arguments[1]), arguments[2])
        return reduce(np.minimum if node.func.id == "min" else np.maximum, arguments)


def _is_finite_number(value: Any) -> bool:
    """Return whether a constant is a number that an array can hold; 1e999 is infinite."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _depth(tree: ast.expr) -> int:
    """Return how deep a tree is, without recursion."""
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [c for n in level for c in ast.iter_child_nodes(n)]  # type: ignore[misc]
    return depth
