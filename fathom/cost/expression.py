"""Arithmetic that a claim file may contain: names of its figures, numbers, + - * / and brackets, nothing else."""

from __future__ import annotations

import ast
import contextlib
import operator
from collections.abc import Callable, Mapping

from fathom.errors import FathomError

_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def evaluate(text: str, values: Mapping[str, float]) -> float:
    """The value of `text`. Raises `FathomError` for anything but arithmetic, and for a name that `values` lacks."""
    try:
        return _value(_parse(text), text, values)
    except ZeroDivisionError:
        raise FathomError(f"the expression '{text}' divides by zero") from None


def names(text: str) -> list[str]:
    """The figures that `text` needs, in order of appearance."""
    _check(_parse(text), text)
    found = [(node.lineno, node.col_offset, node.id) for node in ast.walk(_parse(text)) if isinstance(node, ast.Name)]
    return list(dict.fromkeys(name for _, _, name in sorted(found)))


def _parse(text: str) -> ast.expr:
    if len(text) > 500:
        raise FathomError("an expression of a claim may have 500 characters at most")
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise FathomError(f"the expression '{text}' is not arithmetic that can be read") from None


def _check(node: ast.expr, text: str) -> None:
    """Arithmetic only: every name stands for some number, so evaluating with ones finds anything else."""
    anything = {part.id: 1.0 for part in ast.walk(node) if isinstance(part, ast.Name)}
    with contextlib.suppress(ZeroDivisionError):
        _value(node, text, anything)


def _value(node: ast.expr, text: str, values: Mapping[str, float]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    if isinstance(node, ast.Name):
        if node.id not in values:
            raise FathomError(f"the expression '{text}' needs the figure '{node.id}', which the claim does not give")
        return values[node.id]
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_value(node.left, text, values), _value(node.right, text, values))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand, text, values)
    raise FathomError(f"the expression '{text}' may hold figures, numbers, + - * / and brackets only")
