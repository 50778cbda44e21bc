"""Numbers from one base to another, by way of base ten."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.divisors import short_division


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
