"""Numbers from one base to another, by way of base ten."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import keyed, without_leading_zeros, written

_DIGITS, _REMAINDERS = "abcde", "hijkl"  # binary numbers up to 31 have five digits


def base_conversion(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """To base ten by multiplying by the base and adding the next digit; from there by dividing, remainders in reverse.

    The first line names the bases s and t and the digits: `s3t5a2b1c0d1`. `02s3=06b1=07` reads: 02 times the base 3 is
    06, and the digit 1 makes 07. `24t5=04h4`: 24 by 5 is 04 and leaves 4. Of the question only the last sentence is
    kept: the rest is about letters as digits.
    """
    source, target, value = metadata["source_base"], metadata["target_base"], metadata["decimal_value"]
    digits = keyed(metadata["source_repr"], _DIGITS)
    lines = [f"s{source}t{target}{written(digits)}"]
    number = digits[0][1]
    for key, digit in digits[1:]:
        product, number = number * source, number * source + digit
        lines.append(f"{product // source:02d}s{source}={product:02d}{key}{digit}={number:02d}")
    remainders = []
    for key in _REMAINDERS:
        lines.append(f"{value:02d}t{target}={value // target:02d}{key}{value % target}")
        remainders.append((key, value % target))
        value //= target
        if not value:
            break
    lines.append(written(without_leading_zeros(remainders[::-1])))
    return question.strip().splitlines()[-1].replace("Now, convert", "Convert"), "\n".join(lines), answer
