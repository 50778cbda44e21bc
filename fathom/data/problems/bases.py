"""Numbers from one base to another, by way of base ten."""

from __future__ import annotations

from typing import Any


def base_conversion(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """To base ten by multiplying by the base and adding the next digit; from there by dividing, remainders in front."""
    source, target, value = metadata["source_base"], metadata["target_base"], metadata["decimal_value"]
    lines = [] if source == 10 else _to_ten(metadata["source_repr"], source)
    digits = ""
    while target != 10 and value >= target:
        steps, quotient, remainder = short_division(value, target)
        digits = f"{remainder}{digits}"
        lines.append(f"{value}/{target}:{steps} {quotient},{digits}")
        value = quotient
    return question.strip(), "\n".join(lines), answer


def _to_ten(digits: str, base: int) -> list[str]:
    value = int(digits[0])
    lines = [str(value)]
    for digit in digits[1:]:
        product = value * base
        value = product + int(digit)
        lines.append(f"{product // base}*{base}={product}+{digit}={value}")
    return lines


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
