"""Short division, and the greatest common divisor by Euclid's algorithm."""

from __future__ import annotations

from typing import Any


def short_division(number: int, divisor: int) -> tuple[str, int, int]:
    """The steps digit by digit (`digit=quotient r remainder`), the quotient and the remainder."""
    quotient, remainder, steps = 0, 0, []
    for character in str(number):
        digit, remainder = divmod(10 * remainder + int(character), divisor)
        quotient = 10 * quotient + digit
        steps.append(f"{character}={digit}r{remainder}")
    return " ".join(steps), quotient, remainder


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
