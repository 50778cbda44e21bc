"""Sums, differences and products in columns, last digit first, as taught in school.

Each line of a sum or difference shows what is left of both numbers with a point before the digits that it works on, so
the next line is a copy of it one digit shorter: `599.3+171.9:3+9+0=12 2`, then `59.9+17.1:9+1+1=11 12`. The digits
stand side by side once more before their sum: a small model learns a table of neighbours several times faster.
"""

from __future__ import annotations


def add(first: str, second: str) -> tuple[str, str]:
    """The steps of a sum and its digits. Each line: digits and carry, their two-digit sum, the result so far."""
    lines, result, carry = _worked(first, second, "+", 0, 10)
    if carry:
        result = f"1{result}"
        lines += f"{result}\n"
    return lines, result


def subtract(first: str, second: str, *, borrow: int = 0, tens: int = 10) -> tuple[str, str, int]:
    """The steps of a difference, its digits, and 1 where the first number was too small and borrowed, else 0.

    Each line: the digits and the borrow, then 1 if this column borrows and its digit, then the result so far. `tens` is
    what a borrow is worth in all columns but the last.
    """
    return _worked(first, second, "-", borrow, tens)


def multiply(number: str, digit: str) -> tuple[str, str]:
    """The steps of a product with one digit, and its digits, one more than the number has.

    Each line: product, carry, sum, the result so far.
    """
    carry, result, lines = 0, "", [f"{number}*{digit}"]
    for character in reversed(number):
        product = int(character) * int(digit)
        total = product + carry
        result = f"{total % 10}{result}"
        lines.append(f"{character}*{digit}={product:02d}+{carry}={total:02d} {result}")
        carry = total // 10
    result = f"{carry}{result}"
    return "\n".join([*lines, result]) + "\n", result


def _worked(first: str, second: str, sign: str, carry: int, tens: int) -> tuple[str, str, int]:
    width = max(len(first), len(second))
    first, second = first.zfill(width), second.zfill(width)
    result, lines = "", ""
    for column in reversed(range(width)):
        x, y = int(first[column]), int(second[column])
        line = f"{first[:column]}.{x}{sign}{second[:column]}.{y}:{x}{sign}{y}{sign}{carry}="
        modulus = tens if column < width - 1 else 10
        carry, digit = divmod(x + y + carry, 10) if sign == "+" else _borrow(x - y - carry, modulus)
        result = f"{digit}{result}"
        lines += f"{line}{carry}{digit} {result}\n"
    return lines, result, carry


def _borrow(difference: int, modulus: int) -> tuple[int, int]:
    return (1, difference + modulus) if difference < 0 else (0, difference)
