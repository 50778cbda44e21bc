"""Time between two moments: seconds, minutes and hours one after the other, in columns."""

from __future__ import annotations

import re
from typing import Any

from fathom.data.problems.columns import subtract


def time_intervals(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The later time minus the earlier one, smallest unit first; a borrow by the tens is worth six of them."""
    start, end = re.findall(r"\d\d:\d\d(?::\d\d)?", question)[:2]
    borrow, result, lines = 0, "", []
    for later, earlier in zip(reversed(end.split(":")), reversed(start.split(":")), strict=True):
        steps, part, borrow = subtract(later, earlier, borrow=borrow, tens=6)
        result = f"{part}:{result}" if result else part
        lines.append(f"{steps}{result}")
    return question, "\n".join([*lines[:-1], lines[-1].rpartition("\n")[0]]), answer
