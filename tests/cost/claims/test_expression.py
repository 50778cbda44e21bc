"""Arithmetic of claim files: the same values as Python's own, and nothing beyond arithmetic."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fathom.cost.expression import evaluate, names
from fathom.errors import FathomError

NUMBERS = st.floats(min_value=0.5, max_value=1e6)
TREES = st.recursive(
    st.sampled_from(["a", "b", "2", "1.5e3"]),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
    max_leaves=8,
)


@given(TREES, NUMBERS, NUMBERS)
def test_values_are_those_of_python(text: str, a: float, b: float) -> None:
    expected = eval(text, {"__builtins__": {}}, {"a": a, "b": b})
    assert evaluate(text, {"a": a, "b": b}) == pytest.approx(expected)


def test_names_in_order_of_appearance() -> None:
    assert names("tokens / tokens_per_day * count - tokens") == ["tokens", "tokens_per_day", "count"]


def test_division_by_zero_is_said() -> None:
    with pytest.raises(FathomError, match="divides by zero"):
        evaluate("a / (a - a)", {"a": 1.0})


def test_a_missing_figure_is_named() -> None:
    with pytest.raises(FathomError, match="'days'"):
        evaluate("hours / days", {"hours": 1.0})


@pytest.mark.parametrize(
    "text", ["a.real", "a[0]", "f(a)", "a ** 2", "a if a else a", "[a]", "True", "a; a", "", "(" * 300]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(FathomError):
        evaluate(text, {"a": 1.0})
