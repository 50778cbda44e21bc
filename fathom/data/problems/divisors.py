"""Short division, and the greatest common divisor by Euclid's algorithm."""

from __future__ import annotations

from typing import Any


def short_division(number: int, divisor: int) -> tuple[str, int, int]:
    """The steps, the quotient and the remainder.

    `25/9=2,18r7 70/9=7,63r7` divides 250 by 9: 25 by 9 is 2, which makes 18 and leaves 7; with the next digit 70.
    """
    digits, steps, quotient = str(number), [], ""
    taken = 1 if int(digits[0]) >= divisor or len(digits) == 1 else 2
    part = int(digits[:taken])
    for digit in [*digits[taken:], ""]:
        quotient += str(part // divisor)
        steps.append(f"{part}/{divisor}={part // divisor},{part // divisor * divisor:02d}r{part % divisor}")
        part = int(f"{part % divisor}{digit}")
    return " ".join(steps), int(quotient), part


def gcd(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The larger number is replaced by its remainder until that is 0: by subtraction, or by short division below 10."""
    smaller, larger = sorted(metadata["numbers"])
    lines = []
    while smaller:
        line = f"{larger},{smaller}:"
        if smaller < 10:
            steps, _, rest = short_division(larger, smaller)
            line += steps
        else:
            rest = larger
            line += str(rest)
            while rest >= smaller:
                rest -= smaller
                line += f"-{smaller}={rest}"
        lines.append(line)
        larger, smaller = smaller, rest
    return question, "\n".join([*lines, str(larger)]), answer
