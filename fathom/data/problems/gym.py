"""The generators of `reasoning-gym`, with the ranges that our steps are written for."""

from __future__ import annotations

from functools import cache
from typing import Any

from fathom.errors import MissingExtra

RANGES: dict[str, dict[str, Any]] = {
    "chain_sum": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 4},
    "products": {"min_terms": 2, "max_terms": 2, "min_digits": 2, "max_digits": 2},
    "number_sorting": {
        "min_numbers": 3,
        "max_numbers": 4,
        "min_decimals": 0,
        "max_decimals": 0,
        "min_value": 10,
        "max_value": 99,
    },
    "letter_counting": {"min_words": 2, "max_words": 4},
    "number_filtering": {
        "min_numbers": 3,
        "max_numbers": 5,
        "min_decimals": 0,
        "max_decimals": 0,
        "min_value": 10,
        "max_value": 99,
    },
    "time_intervals": {"task_types": ["time"]},
}


@cache
def dataset(kind: str) -> Any:
    """The generator of a kind; item i is a dict of `question`, `answer` and `metadata`, a pure function of i."""
    try:
        from reasoning_gym.factory import create_dataset
    except ImportError as error:
        raise MissingExtra("reasoning-gym") from error
    return create_dataset(kind, seed=0, size=1 << 62, **RANGES[kind])
