"""Chained sums and products."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import add, multiply, subtract


def chain_sum(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """What is added is summed up, then what is taken away; the larger sum minus the smaller gives the answer."""
    first, *rest = metadata["expression"].split()
    added = [int(first)] + [int(n) for sign, n in zip(rest[::2], rest[1::2], strict=True) if sign == "+"]
    taken = [int(n) for sign, n in zip(rest[::2], rest[1::2], strict=True) if sign == "-"]
    steps, plus = _sum(added)
    if not taken:
        return question, f"{steps}{plus}", answer
    more_steps, minus = _sum(taken)
    width = len(str(max(plus, minus)))
    left, right = str(plus).zfill(width), str(minus).zfill(width)
    compared, relation = _compare(left, right)
    steps += f"{more_steps}{left}-{right}: {compared}\n"
    if relation == "<":
        left, right = right, left
    lines, result = subtract(left, right)
    sign = "-" if relation == "<" else ""
    return question, f"{steps}{left}-{right}\n{lines}\n{sign}{int(result)}", answer


def _sum(numbers: list[int]) -> tuple[str, int]:
    steps, total = "", numbers[0]
    for number in numbers[1:]:
        lines, total = add(total, number)
        steps += lines
    return steps, total


def _compare(left: str, right: str) -> tuple[str, str]:
    """Digits of two numbers of one length side by side up to the first that differ, and how the numbers compare."""
    pairs, relation = [], "="
    for x, y in zip(left, right, strict=True):
        relation = "=" if x == y else "<" if x < y else ">"
        pairs.append(f"{x}{relation}{y}")
        if relation != "=":
            break
    return " ".join(pairs), relation


def products(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The first number times each digit of the second, then the sum of the two, the tens shifted by one place."""
    first, second = (int(number) for number in metadata["expression"].split(" * "))
    ones_steps, ones = multiply(first, second % 10)
    tens_steps, tens = multiply(first, second // 10)
    sum_steps, result = add(ones, 10 * tens)
    return question, f"{ones_steps}{tens_steps}{sum_steps}{result}", answer
