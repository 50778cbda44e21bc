"""Sums, differences and products in columns, last digit first, as taught in school."""

from __future__ import annotations

from collections.abc import Sequence


def add(first: int, second: int) -> tuple[str, int]:
    """The steps of a sum and the sum. Each line: two digits, the carry, their two-digit sum, the result so far."""
    lines, result = _worked(str(first), str(second), "+", None)
    return f"{first}+{second}\n{lines}\n", int(result)


def subtract(first: str, second: str, moduli: Sequence[int] | None = None) -> tuple[str, str]:
    """The steps of a difference that is not negative, and its digits, as many as there are columns.

    Each line: the digits, the borrow, then 1 if this column borrows and its digit, then the result so far. `moduli`:
    what a borrow is worth in each column, first column first (10 everywhere without it; 6 for tens of minutes).
    """
    return _worked(first, second, "-", moduli)


def multiply(number: int, digit: int) -> tuple[str, int]:
    """The steps of a product with one digit, and the product. Each line: product, carry, sum, the result so far."""
    carry, result, lines = 0, "", [f"{number}*{digit}"]
    for character in reversed(str(number)):
        product = int(character) * digit
        total = product + carry
        carry, result = total // 10, f"{total % 10}{result}"
        lines.append(f"{character}*{digit}={product:02d}+{total - product}={total:02d} {result}")
    if carry:
        result = f"{carry}{result}"
        lines.append(result)
    return "\n".join(lines) + "\n", int(result)


def _worked(first: str, second: str, sign: str, moduli: Sequence[int] | None) -> tuple[str, str]:
    width = max(len(first), len(second))
    first, second = first.zfill(width), second.zfill(width)
    carry, result, lines = 0, "", []
    for column in reversed(range(width)):
        x, y, modulus = int(first[column]), int(second[column]), moduli[column] if moduli else 10
        before = carry
        carry, digit = divmod(x + y + carry, 10) if sign == "+" else _borrow(x - y - carry, modulus)
        result = f"{digit}{result}"
        lines.append(f"{x}{sign}{y}{sign}{before}={carry}{digit} {result}")
    if sign == "+" and carry:
        result = f"1{result}"
        lines[-1] += f" {result}"
    return "\n".join(lines), result


def _borrow(difference: int, modulus: int) -> tuple[int, int]:
    return (1, difference + modulus) if difference < 0 else (0, difference)
