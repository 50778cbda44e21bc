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
        return question, steps.rstrip("\n"), answer
    more_steps, minus = _sum(taken)
    width = len(str(max(plus, minus)))
    left, right = str(plus).zfill(width), str(minus).zfill(width)
    compared, relation = _compare(left, right)
    steps += f"{more_steps}{left}-{right}:{compared}\n"
    if relation == "<":
        left, right = right, left
    lines, _, _ = subtract(left, right)
    return question, f"{steps}{lines}".rstrip("\n"), answer


def _sum(numbers: list[int]) -> tuple[str, int]:
    steps, total = "", numbers[0]
    for number in numbers[1:]:
        lines, result = add(str(total), str(number))
        steps += lines
        total = int(result)
    return steps, total


def _compare(left: str, right: str) -> tuple[str, str]:
    """Digits of two numbers of one length side by side up to the first that differ, and how the numbers compare."""
    pairs, relation = [], "="
    for x, y in zip(left, right, strict=True):
        relation = "=" if x == y else "<" if x < y else ">"
        pairs.append(f"{x},{y}{relation}")
        if relation != "=":
            break
    return " ".join(pairs), relation


def products(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The first number times each digit of the second, then the sum of the two, the last digit of the first aside."""
    first, second = metadata["expression"].split(" * ")
    ones_steps, ones = multiply(first, second[1])
    tens_steps, tens = multiply(first, second[0])
    sum_steps, _ = add(ones[:-1], tens)
    return question, f"{ones_steps}{tens_steps}{sum_steps}".rstrip("\n"), answer
