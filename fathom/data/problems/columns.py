"""Digits under keys, and sums, differences and products worked in columns, last digit first, as taught in school.

Every digit is written once behind a letter of its own: `527 + 17` as `a5b2c7+e0f1g7`. Wherever a digit is needed
again its letter stands before it, so that finding it is copying what followed the same letter before; digits alone
repeat within a number, and a small model that looks for "the digit after a 5" finds the wrong one.
"""

from __future__ import annotations

from collections.abc import Iterable

# Letters of the digits, first digit first: of the first number, the second and the result.
FIRST, SECOND, RESULT = "abcd", "efgh", "pqrs"
CARRIED = "o"  # what a sum carries out of its first column: the digit before `p`

Digits = list[tuple[str, int]]  # key and digit, first digit first


def keyed(number: str, keys: str) -> Digits:
    """The digits of a number under the first of `keys`."""
    return [(key, int(digit)) for key, digit in zip(keys, number, strict=False)]


def written(digits: Iterable[tuple[str, int]]) -> str:
    return "".join(f"{key}{digit}" for key, digit in digits)


def add(first: Digits, second: Digits, result: str) -> tuple[str, Digits]:
    """Lines `c7g7=14+0=1r4`: both digits and their sum, the carry, what is carried on, the digit of the result.

    Both numbers have as many digits as `result` has keys; what is carried out of the first column gets `CARRIED`.
    """
    lines, digits, carry = "", [], 0
    for x, y, key in zip(reversed(first), reversed(second), reversed(result), strict=True):
        total = x[1] + y[1] + carry
        lines += f"{written([x, y])}={x[1] + y[1]:02d}+{carry}={total // 10}{key}{total % 10}\n"
        carry = total // 10
        digits.append((key, total % 10))
    return lines, [*([(CARRIED, carry)] if carry else []), *reversed(digits)]


def subtract(first: Digits, second: Digits, result: str, *, worth: dict[str, int] | None = None) -> tuple[str, Digits]:
    """Lines `c2g7=15-0=1r5`: both digits, whether the second is greater and the difference with what is then borrowed,
    the borrow of the column before, whether this one borrows after all, the digit of the result.

    `first` is at least `second`. `worth`: what a borrow is worth in a column, by the result's key, where not ten.
    """
    lines, digits, borrow = "", [], 0
    for x, y, key in zip(reversed(first), reversed(second), reversed(result), strict=True):
        modulus = (worth or {}).get(key, 10)
        alone, total = x[1] - y[1], x[1] - y[1] - borrow
        lines += (
            f"{written([x, y])}={int(alone < 0)}{alone % modulus}-{borrow}={int(total < 0)}{key}{total % modulus}\n"
        )
        borrow = int(total < 0)
        digits.append((key, total % modulus))
    return lines, digits[::-1]


def multiply(number: Digits, digit: tuple[str, int], result: str) -> tuple[str, Digits]:
    """Lines `b2f4=08+0=0s8`: two digits and their product, the carry, what is carried on, the digit of the result.

    The last line is what was carried out of the first column, under the first key of `result`.
    """
    lines, digits, carry = "", [], 0
    for (key, value), result_key in zip(reversed(number), reversed(result[1:]), strict=True):
        total = value * digit[1] + carry
        lines += (
            f"{key}{value}{written([digit])}={value * digit[1]:02d}+{carry}={total // 10}{result_key}{total % 10}\n"
        )
        carry = total // 10
        digits.append((result_key, total % 10))
    digits.append((result[0], carry))
    return f"{lines}{written(digits[-1:])}\n", digits[::-1]


def compare(first: Digits, second: Digits) -> tuple[str, str]:
    """Pairs of digits up to the first that differ, `a5e5=b2f1>`, and how the numbers compare."""
    pairs, relation = "", "="
    for x, y in zip(first, second, strict=True):
        relation = "=" if x[1] == y[1] else "<" if x[1] < y[1] else ">"
        pairs += f"{written([x, y])}{relation}"
        if relation != "=":
            break
    return pairs, relation


def without_leading_zeros(digits: Digits) -> Digits:
    """The last digit stays in any case."""
    for place, (_, digit) in enumerate(digits):
        if digit:
            return digits[place:]
    return digits[-1:]
