"""Sorting by insertion: every comparison is written down before the order that follows from it."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import Digits, compare, written

_TENS, _ONES = "abcd", "ABCD"
_PLACES = ("p", "qr", "stu", "vwxy")  # names of the places in an order of one, two, three and four numbers


def number_sorting(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """Each next number is compared with the ordered ones from the front until it comes before one, and put there.

    The first line holds the relation that ends a search, `<` for ascending, and the digits under keys: `<a2A9b9B4c6C7`.
    `c6qa2>c6rb9<:sa2tc6ub9` reads: c, 6., is greater than a, 2., at place q and less than b, 9., at place r; the order
    is a, c, b at places s, t, u. Where the tens are equal the ones decide. Of the question only its first line is kept:
    the rest asks for the answer as a list of quoted strings, the answer here is written as the question writes its
    numbers, and `29.0` is written `29`.
    """
    ends = ">" if metadata["direction"] == "descending" else "<"
    numbers = [int(float(text)) for text in metadata["original_numbers"]]
    digits = {
        tens: [(tens, number // 10), (ones, number % 10)]
        for tens, ones, number in zip(_TENS, _ONES, numbers, strict=False)
    }
    order, steps = "a", [ends + "".join(map(written, digits.values())), _placed("a", digits)]
    for key in list(digits)[1:]:
        place, comparisons = _place(key, order, digits, ends)
        order = f"{order[:place]}{key}{order[place:]}"
        steps.append(f"{comparisons}:{_placed(order, digits)}")
    steps.append("".join(written(digits[key]) for key in order))
    ordered = ", ".join("".join(str(digit) for _, digit in digits[key]) for key in order)
    return question.split("\n")[0].replace(".0", ""), "\n".join(steps), ordered


def _placed(order: str, digits: dict[str, Digits]) -> str:
    """The order with a name before each number, which no other order has, and its tens behind."""
    named = zip(_PLACES[len(order) - 1], order, strict=True)
    return "".join(f"{name}{written(digits[key][:1])}" for name, key in named)


def _place(key: str, order: str, digits: dict[str, Digits], ends: str) -> tuple[int, str]:
    """Where the number under `key` belongs in the order, and its comparisons up to there."""
    comparisons = ""
    for place, (name, other) in enumerate(zip(_PLACES[len(order) - 1], order, strict=True)):
        pairs, relation = compare(digits[key], digits[other])
        comparisons += f"{pairs[:2]}{name}{pairs[2:]}"
        if relation == ends:
            return place, comparisons
    return len(order), comparisons
