"""Numbers between bases two, four and eight: every digit stands for bits, and groups of bits are digits."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import Digits, keyed, without_leading_zeros, written

BASES = (2, 4, 8)
_SOURCE, _TARGET = "jklmnopq", "rstuvwxyz"  # first digit first; last digit first
_BITS = "abcdefghi"  # last one first: numbers up to 255 have three digits of base eight, which are nine bits
_WIDTH = {2: 1, 4: 2, 8: 3}  # bits of a digit


def base_conversion(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """Digits under keys, each one's bits from the last to the first, then the digits that groups of bits make.

    `k5:a1b0c1` reads: the digit 5 under k is the bits 1, 0, 1 counted from the end. `a1b0:r1` reads: they make the
    digit 1, the last of the result. Of the question only the last sentence is kept: the rest is about letters as
    digits.
    """
    source, target = _WIDTH[metadata["source_base"]], _WIDTH[metadata["target_base"]]
    digits = keyed(metadata["source_repr"], _SOURCE)
    lines, bits = [written(digits)], []
    for place, digit in enumerate(reversed(digits)):
        mine = [(_BITS[place * source + bit], digit[1] >> bit & 1) for bit in range(source)]
        lines.append(f"{written([digit])}:{written(mine)}")
        bits += mine
    result: Digits = []
    for first in range(0, len(bits), target):
        group = bits[first : first + target]
        result.append((_TARGET[len(result)], sum(bit << place for place, (_, bit) in enumerate(group))))
        lines.append(f"{written(group)}:{written(result[-1:])}")
    lines.append(written(without_leading_zeros(result[::-1])))
    return question.strip().splitlines()[-1].replace("Now, convert", "Convert"), "\n".join(lines), answer
