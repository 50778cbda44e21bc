"""Numbers between bases two, four and eight: every digit stands for bits, and groups of bits are digits."""

from __future__ import annotations

from typing import Any

from fathom.data.problems.columns import keyed, without_leading_zeros, written

BASES = (2, 4, 8)
_BITS, _SOURCE, _TARGET = "abcdefghi", "jklm", "rstu"  # numbers up to 127: three digits of base eight are nine bits
_WIDTH = {2: 1, 4: 2, 8: 3}  # bits of a digit


def base_conversion(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """Digits under keys, the bits of each, then the digits that groups of bits make, from the last group on.

    `k5:a1b0c1` reads: the digit 5 under k is the bits 1, 0, 1. `b0c1:r1` reads: they make the digit 1, the last of the
    result. Of the question only the last sentence is kept: the rest is about letters as digits.
    """
    source, target = _WIDTH[metadata["source_base"]], _WIDTH[metadata["target_base"]]
    digits = keyed(metadata["source_repr"], _BITS if source == 1 else _SOURCE)
    lines, bits = [written(digits)], digits
    if source > 1:
        spelt = [keyed(f"{digit:0{source}b}", _BITS[source * place :]) for place, (_, digit) in enumerate(digits)]
        lines += [f"{written([digit])}:{written(mine)}" for digit, mine in zip(digits, spelt, strict=True)]
        bits = [bit for mine in spelt for bit in mine]
    result = bits
    if target > 1:
        result = []
        for key, end in zip(_TARGET, range(len(bits), 0, -target), strict=False):
            group = bits[max(0, end - target) : end]
            result.insert(0, (key, int("".join(str(bit) for _, bit in group), 2)))
            lines.append(f"{written(group)}:{written(result[:1])}")
    lines.append(written(without_leading_zeros(result)))
    return question.strip().splitlines()[-1].replace("Now, convert", "Convert"), "\n".join(lines), answer
