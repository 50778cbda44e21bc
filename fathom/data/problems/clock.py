"""Time between two moments: seconds, minutes and hours one after the other, with a borrow worth 60."""

from __future__ import annotations

import re
from typing import Any


def time_intervals(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The later time minus the earlier one, smallest unit first.

    `12-40-1=131 31`: 12 minus 40 minus the 1 borrowed before borrows 1 and leaves 31; then the result so far.
    """
    start, end = re.findall(r"\d\d:\d\d(?::\d\d)?", question)[:2]
    borrow, result, lines = 0, "", [f"{end}-{start}"]
    for later, earlier in zip(reversed(end.split(":")), reversed(start.split(":")), strict=True):
        difference = int(later) - int(earlier) - borrow
        line = f"{later}-{earlier}-{borrow}="
        borrow = int(difference < 0)
        part = f"{difference + 60 * borrow:02d}"
        result = f"{part}:{result}" if result else part
        lines.append(f"{line}{borrow}{part} {result}")
    return question, "\n".join(lines), answer
