"""Time between two moments of a day: the later one minus the earlier one in columns."""

from __future__ import annotations

import re
from typing import Any

from fathom.data.problems.columns import FIRST, RESULT, SECOND, keyed, subtract, written

_WORTH = {RESULT[2]: 6}  # the tens of minutes borrow an hour


def time_intervals(question: str, answer: str, metadata: dict[str, Any]) -> tuple[str, str, str]:
    """The digits of the later and the earlier time under keys, the columns, the digits of the result.

    Of the question only its first sentences are kept: the last asks for the form that the times already have.
    """
    start, end = re.findall(r"\d\d:\d\d", question)[:2]
    later, earlier = keyed(end.replace(":", ""), FIRST), keyed(start.replace(":", ""), SECOND)
    columns, digits = subtract(later, earlier, RESULT, worth=_WORTH)
    return (
        re.sub(r" [^.?]*HH:MM\.$", "", question),
        f"{written(later)}-{written(earlier)}\n{columns}{written(digits)}",
        answer,
    )
