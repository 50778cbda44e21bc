"""Filtering: every number is compared with the limit, and kept or not as the comparison says."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import compare, keyed, written

_TENS, _ONES = "abcde", "ABCDE"
# Which relations to the limit keep a number.
_KEPT = {"keep_larger": ">", "keep_smaller": "<", "remove_larger": "<=", "remove_smaller": ">="}


def number_filtering(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The relations that keep a number, the digits of the limit and of the numbers under keys, a comparison a line.

    `a5x5=A7X2>y` reads: a, 57, is greater than the limit x, 52, which keeps it. Of the question only its first line is
    kept, its list as plain numbers; so is the answer, `none` where nothing is left.
    """
    kept = _KEPT[metadata["operation"]]
    limit = keyed(metadata["filter_value"], "xX")
    numbers = [
        keyed(text, "".join(keys)) for text, *keys in zip(metadata["original_numbers"], _TENS, _ONES, strict=False)
    ]
    lines, left = [f"{kept}{written(limit)}{''.join(map(written, numbers))}"], []
    for number in numbers:
        pairs, relation = compare(number, limit)
        keeps = relation in kept
        lines.append(f"{pairs}{'y' if keeps else 'n'}")
        left += [number] if keeps else []
    lines.append("".join(map(written, left)) or "none")
    asked = f"{question.split('[')[0]}{', '.join(metadata['original_numbers'])}"
    return asked, "\n".join(lines), ", ".join("".join(str(digit) for _, digit in number) for number in left) or "none"
