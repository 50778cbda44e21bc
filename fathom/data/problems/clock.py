"""Time between two moments, in columns: a borrow from minutes or hours is worth six tens."""

from __future__ import annotations

import re
from typing import Any

from fathom.data.problems.columns import subtract

_MODULI = (10, 10, 6, 10, 6, 10)  # HH:MM:SS; a day has no further column to borrow from


def time_intervals(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The later time minus the earlier one, digit by digit from the end."""
    start, end = re.findall(r"\d\d:\d\d(?::\d\d)?", question)[:2]
    digits = end.replace(":", "")
    lines, _ = subtract(digits, start.replace(":", ""), _MODULI[: len(digits)])
    return question, f"{end}-{start}\n{lines}", answer
