"""Sums and differences of two numbers, and products."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import (
    FIRST,
    RESULT,
    SECOND,
    add,
    compare,
    keyed,
    multiply,
    subtract,
    without_leading_zeros,
    written,
)


def chain_sum(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """Both numbers under keys, for a difference which of them is greater, the columns, the result's digits.

    Of the question only `527 + 117 =` is kept.
    """
    x, sign, y = metadata["expression"].split()
    first, second, result = keyed(x, FIRST), keyed(y, SECOND), RESULT[: len(x)]
    lines, minus = f"{written(first)}{sign}{written(second)}\n", ""
    if sign == "+":
        columns, digits = add(first, second, result)
    else:
        compared, relation = compare(first, second)
        lines += f"{compared}\n"
        if relation == "<":
            first, second, minus = second, first, "-"
        columns, digits = subtract(first, second, result)
    return question.split(": ")[1], f"{lines}{columns}{minus}{written(without_leading_zeros(digits))}", answer


def products(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The first number times each digit of the second, then the sum of the two; the last digit needs none."""
    x, y = metadata["expression"].split(" * ")
    first, (tens, ones) = keyed(x, FIRST), keyed(y, SECOND)
    ones_lines, ones_row = multiply(first, ones, "qrs")
    tens_lines, tens_row = multiply(first, tens, "xyz")
    *upper, last = ones_row
    sum_lines, total = add([("w", 0), *upper], tens_row, "lmn")
    lines = f"{written(first)}*{written([tens, ones])}\n{ones_lines}{tens_lines}{sum_lines}"
    return question.split(". ")[0], lines + written(without_leading_zeros([*total, last])), answer
