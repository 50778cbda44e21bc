"""Figures that a claim states beside its hours: each is held against what follows from the others."""

from pathlib import Path

import pytest

from fathom.cost.verdict import try_claim
from fathom.cost.verdict_words import Verdict
from fathom.errors import FathomError
from tests.cost.claims.test_bad_claims import GOOD, trial_of

HOURS = 'device_hours = { value = 1e5, source = "paper", where = "Table 1" }\n'


def with_figure(name: str, value: object) -> str:
    shown = f'"{value}"' if isinstance(value, str) else value
    return f'{GOOD}{name} = {{ value = {shown}, source = "paper", where = "Table 2" }}\n'


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("cost_usd", 3000, "below anything that such an hour is known to cost"),
        ("cost_usd", 6e6, "above anything that such an hour is known to cost"),
        ("flops", 4.2e23, "operations are stated"),
        ("utilisation", 0.75, "is stated as utilisation"),
        ("energy_mwh", 400, "W a device for the stated hours"),
        ("power_watts", 4000, "is rated at"),
        ("co2_tonnes", 900, "lignite"),
        ("precision", "fp8", "has no units for it"),
    ],
)
def test_a_figure_that_contradicts_the_hours_is_implausible_and_said_so(
    name: str, value: object, says: str, tmp_path: Path
) -> None:
    trial = trial_of(with_figure(name, value), tmp_path)
    assert trial.verdict is Verdict.IMPLAUSIBLE
    assert any(says in reason.text for reason in trial.reasons if reason.verdict is Verdict.IMPLAUSIBLE)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cost_usd", 300e9), ("flops", 4.2e25), ("energy_mwh", 50_000), ("power_watts", 4e6), ("co2_tonnes", 5e6)],
)
def test_a_figure_off_by_hundreds_is_questioned_as_a_slip_of_units(name: str, value: float, tmp_path: Path) -> None:
    with pytest.raises(FathomError, match=f"{name} = .* is questioned"):
        trial_of(with_figure(name, value), tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cost_usd", 250_000),
        ("flops", 4.2e22),
        ("utilisation", 0.40),
        ("energy_mwh", 44.0),
        ("power_watts", 400),
        ("co2_tonnes", 15),
        ("precision", "fp16"),
    ],
)
def test_a_figure_that_fits_changes_nothing(name: str, value: object, tmp_path: Path) -> None:
    assert trial_of(with_figure(name, value), tmp_path).verdict is Verdict.CONSISTENT


def test_a_rent_outside_of_those_on_file_is_mentioned_before_it_is_held_against_the_claim(tmp_path: Path) -> None:
    trial = trial_of(with_figure("cost_usd", 6e4), tmp_path)
    assert trial.verdict is Verdict.CONSISTENT
    assert any("$0.60 an hour" in reason.text and "cheaper than that" in reason.text for reason in trial.reasons)


def test_a_price_without_hours_is_held_against_the_least_that_the_work_takes(tmp_path: Path) -> None:
    trial = trial_of(with_figure("cost_usd", 1000).replace(HOURS, ""), tmp_path)
    assert trial.verdict is Verdict.IMPLAUSIBLE
    assert any("At the highest rate" in reason.text for reason in trial.reasons)
    assert trial_of(with_figure("cost_usd", 1e6).replace(HOURS, ""), tmp_path).verdict is Verdict.CANNOT_BE_TOLD


def test_the_name_of_another_model_is_questioned(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match="name = 'llama-2-70b' has"):
        trial_of(GOOD.replace("[figures]", '[model]\nname = "llama-2-70b"\n[figures]'), tmp_path)


def test_no_claim_on_file_is_convicted_by_a_figure_of_its_own() -> None:
    """What is on file was read in sources; a conviction would show that the room given is too small."""
    from fathom.cost.claims import all_on_file
    from fathom.cost.verdict_physics import physics, work
    from fathom.cost.verdict_stated import of_stated

    for claim in all_on_file():
        assert all(row.verdict is Verdict.CONSISTENT for row in of_stated(claim, work(claim), physics(claim))), claim.id
        try_claim(claim)
