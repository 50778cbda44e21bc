"""A budget is understood or refused in one sentence; money and energy become the seconds they buy."""

from __future__ import annotations

import pytest

from fathom.cost.energy import modelled_joules
from fathom.cost.prices import price
from fathom.errors import FathomError
from fathom.train.budget import budget_seconds, parse_budget

BILLED = [{"device": "cpu-server", "count": 2}]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10min", 600), ("90s", 90), ("1.5h", 5400), ("2 d", 172800), ("5MIN", 300), ("1e2s", 100)],
)
def test_time(text: str, seconds: float) -> None:
    assert budget_seconds(parse_budget(text), BILLED) == seconds


@pytest.mark.parametrize("text", ["2usd", "$2", "2 $", "200ct"])
def test_money_buys_the_time_that_the_price_list_says(text: str) -> None:
    hourly = 2 * price("cpu-server").usd_per_hour.median
    assert budget_seconds(parse_budget(text), BILLED) == pytest.approx(2 / hourly * 3600)


@pytest.mark.parametrize("text", ["0.05kWh", "50Wh", "0.18MJ"])
def test_energy_buys_the_time_that_the_power_model_says(text: str) -> None:
    watts = modelled_joules("cpu-server", 1.0, count=2).median
    assert budget_seconds(parse_budget(text), BILLED) == pytest.approx(0.05 * 3.6e6 / watts)


WRONG = [
    ("10", "the unit is missing"),
    ("ten minutes", "not a budget"),
    ("10 parsecs", "'parsecs' is not a unit"),
    ("-3min", "more than nothing"),
    ("0usd", "more than nothing"),
    ("1.2.3h", "not a number"),
    ("", "not a budget"),
    ("1e999h", "more than nothing"),
    ("2s", "a run needs at least 30"),
    ("0.000001usd", "a run needs at least 30"),
    ("1e9h", "at most a year"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_an_impossible_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(FathomError, match=message) as caught:
        budget_seconds(parse_budget(text), BILLED)
    assert "such as 10min" in str(caught.value) or "budget" in str(caught.value)


def test_a_machine_without_a_price_cannot_spend_money() -> None:
    with pytest.raises(FathomError, match="no price on file for abacus; give a time instead"):
        budget_seconds(parse_budget("2usd"), [{"device": "abacus", "count": 1}])
