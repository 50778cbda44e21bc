"""Bad claim files: one clear sentence each, that names the figure and says what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fathom.cost.claim_file import parse_claim
from fathom.cost.claims import open_claim
from fathom.cost.verdict import try_claim
from fathom.errors import FathomError

GOOD = """
id = "own"
title = "A claim of one's own"
kind = "training"
subject = "Own 7B"
family = "Own"
made_by = "somebody"
date = "2026-01-01"
statement = "7 billion weights on a trillion tokens in 100,000 A100 hours."
[[source]]
id = "paper"
title = "A paper"
url = "https://example.org/paper"
[figures]
total_parameters = { value = 7e9, source = "paper", where = "Table 1" }
active_parameters = { value = 7e9, source = "paper", where = "Table 1" }
tokens = { value = 1e12, source = "paper", where = "Table 1" }
accelerator = { value = "A100", source = "paper", where = "Table 1" }
device_hours = { value = 1e5, source = "paper", where = "Table 1" }
"""


def trial_of(text: str, tmp_path: Path) -> Any:
    path = tmp_path / "own.toml"
    path.write_text(text, encoding="utf-8")
    return try_claim(open_claim(str(path)))


def test_the_good_file_is_tried(tmp_path: Path) -> None:
    assert str(trial_of(GOOD, tmp_path).verdict) == "consistent"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('value = "A100"', 'value = "H1000"', "nearest names are"),
        ("value = 1e5", "value = -1e5", "device_hours"),
        ("value = 1e5", "value = nan", "finite"),
        ("value = 1e12", "value = inf", "finite"),
        ("value = 1e12", 'value = "1e12"', "not a number"),
        ("value = 1e12", "value = true", "not a number"),
        ("value = 1e12", "value = 1.0", "write trillions out"),
        ("total_parameters = { value = 7e9", "total_parameters = { value = 7", "write billions out"),
        ("active_parameters = { value = 7e9", "active_parameters = { value = 70e9", "cannot exceed total_parameters"),
        ("value = 1e5", "value = 1e2", "are thousands"),
        ("value = 1e5", "value = 1e12", "questioned"),
        ('source = "paper", where = "Table 1" }\ndevice', 'where = "Table 1" }\ndevice', "'source' is missing"),
        ('{ value = 1e5, source = "paper", where = "Table 1" }', "1e5", "lacks its source"),
        ('{ value = 1e5, source = "paper"', '{ value = 1e5, source = "papre"', "not among the claim's sources"),
        ('value = 1e5, source = "paper", where = "Table 1"', 'value = 1e5, source = "paper"', "'where' is missing"),
        ("[[source]]", "[[sources]]", "did you mean 'source'"),
        ('url = "https://example.org/paper"', 'url = "javascript:alert(1)"', "https://"),
        ('url = "https://example.org/paper"', "", "'url' is missing"),
        ("tokens = {", "tokns = {", "did you mean 'tokens'"),
        ('kind = "training"', 'kind = "traning"', "kind"),
        ('date = "2026-01-01"', "date = 2026-01-01", "date"),
        ('date = "2026-01-01"', 'date = "January"', "date"),
        ('id = "own"', 'id = "../own"', "small letters"),
        ('statement = "7', 'summary = "x"\nstatement = "7', "'summary' is not known"),
        ("value = 1e5, source", 'value = 1e5, basis = "guessed", source', "'stated', 'derived' or 'assumed'"),
        ("value = 1e5, source", 'value = 1e5, basis = "derived", source', "must say how"),
        ("value = 1e5, source", 'value = 1e5, seen = "yes", source', "true or false"),
        ("[figures]", '[model]\nname = "lama-7b"\n[figures]', "llama-7b"),
        ("[figures]", "[model]\nlayer = 3\n[figures]", "did you mean 'layers'"),
        ("[figures]", "figures = 3\n[x]", "is not known"),
        ('id = "own"', 'id = "own', "not TOML"),
    ],
)  # fmt: skip
def test_one_clear_sentence(old: str, new: str, says: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(FathomError) as caught:
        trial_of(GOOD.replace(old, new, 1), tmp_path)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert "own.toml" in message


def extra(**figures: float) -> str:
    rows = [f'{name} = {{ value = {value}, source = "paper", where = "Table 1" }}' for name, value in figures.items()]
    return GOOD + "\n".join(rows) + "\n"


def test_hours_on_the_clock_given_for_device_hours_are_questioned(tmp_path: Path) -> None:
    text = extra(accelerator_count=2048, wall_days=54).replace("value = 1e5", "value = 1296")
    with pytest.raises(FathomError, match="hours on the clock"):
        trial_of(text, tmp_path)


def test_hours_on_the_clock_are_questioned_without_days(tmp_path: Path) -> None:
    """390 hours of 256 devices are 99,840 device-hours, an ordinary run; as device-hours they are impossible."""
    text = extra(accelerator_count=256).replace("value = 1e5", "value = 390")
    with pytest.raises(FathomError, match=r"hours on the clock .* 99,840 device-hours"):
        trial_of(text, tmp_path)


def test_hours_too_few_for_any_reading_are_tried_and_not_questioned(tmp_path: Path) -> None:
    text = extra(accelerator_count=256).replace("value = 1e5", "value = 5000")
    assert str(trial_of(text, tmp_path).verdict) == "impossible"


def test_billions_of_tokens_for_trillions_are_asked_about(tmp_path: Path) -> None:
    trial = trial_of(GOOD.replace("value = 1e12", "value = 4e9").replace("value = 1e5", "value = 4e5"), tmp_path)
    assert str(trial.verdict) == "implausible"
    assert "billions of tokens given for trillions" in trial.reasons[0].text


@pytest.mark.parametrize("tokens", ["1e9", "1e15"])
@pytest.mark.parametrize("hours", ["device_hours = { value = 1e5,", "other_hours = { unit = 'hours', value = 1e5,"])
def test_tokens_off_by_a_thousand_are_questioned_with_and_without_hours(
    tokens: str, hours: str, tmp_path: Path
) -> None:
    text = GOOD.replace("value = 1e12", f"value = {tokens}").replace("device_hours = { value = 1e5,", hours)
    with pytest.raises(FathomError, match=r"is questioned: .*thousands, millions or billions"):
        trial_of(text, tmp_path)


def test_a_run_too_slow_by_no_round_factor_is_asked_about(tmp_path: Path) -> None:
    trial = trial_of(GOOD.replace("value = 1e12", "value = 2e10"), tmp_path)
    assert str(trial.verdict) == "implausible"
    assert "is a unit mixed up?" in trial.reasons[0].text


STAGE = """
[[stage]]
name = "{name}"
figures.device_hours = {{ value = {hours}, source = "paper", where = "Table 3" }}
"""


@pytest.mark.parametrize("hours", [(9e4, 9e4), (1.5e5,), (5e4, 4e4)])
def test_stages_that_are_not_the_whole_contradict_it(hours: tuple[float, ...], tmp_path: Path) -> None:
    stages = "".join(
        STAGE.format(name=n, hours=h) for n, h in zip(("pre-training", "post-training"), hours, strict=False)
    )
    assert str(trial_of(GOOD + stages, tmp_path).verdict) == "implausible"
    fitting = "".join(STAGE.format(name=n, hours=h) for n, h in (("pre-training", 9e4), ("post-training", 1e4)))
    assert str(trial_of(GOOD + fitting, tmp_path).verdict) == "consistent"


def test_no_stage_makes_an_impossible_whole_possible(tmp_path: Path) -> None:
    whole = GOOD.replace("value = 1e5", "value = 1.5e4")
    assert str(trial_of(whole, tmp_path).verdict) == "impossible"
    assert str(trial_of(whole + STAGE.format(name="pre-training", hours=9e4), tmp_path).verdict) == "impossible"


@pytest.mark.parametrize(("days", "verdict"), [(16.3, "consistent"), (14, "implausible"), (19, "implausible")])
def test_devices_and_days_give_the_hours_within_a_day(days: float, verdict: str, tmp_path: Path) -> None:
    assert str(trial_of(extra(accelerator_count=256, wall_days=days), tmp_path).verdict) == verdict


def test_half_an_accelerator_is_none(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match="must be a whole number of devices"):
        trial_of(extra(accelerator_count=2.5), tmp_path)


def test_a_price_off_by_a_thousand_is_questioned(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match="thousands, millions or billions"):
        trial_of(extra(price_usd_per_hour=2.0, cost_usd=200.0), tmp_path)


def test_a_bold_claim_is_tried_and_not_questioned(tmp_path: Path) -> None:
    """Fifty times too fast is a claim, not a slip of units."""
    assert str(trial_of(GOOD.replace("value = 1e5", "value = 2e3"), tmp_path).verdict) == "impossible"


@pytest.mark.parametrize(
    "bad", ["__import__('os').system('x')", "tokens ** 99", "tokens if 1 else 2", "(", "a.b", "'x'"]
)
def test_expressions_hold_arithmetic_only(bad: str, tmp_path: Path) -> None:
    text = GOOD + f'[[result]]\ntitle = "r"\nexpression = "{bad}"\nunit = "x"\n'
    with pytest.raises(FathomError, match=r"expression|arithmetic"):
        trial_of(text, tmp_path)


def test_no_sources_at_all(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match=r"at least one \[\[source\]\]"):
        parse_claim({"id": "x", "title": "t", "kind": "closed", "subject": "s", "family": "f", "made_by": "m",
                     "date": "2026", "statement": "s"}, "x.toml")  # fmt: skip


@pytest.mark.parametrize("name", ["nothing-like-it", "missing.toml"])
def test_an_unknown_name_or_file(name: str) -> None:
    with pytest.raises(FathomError, match=r"no claim|cannot be read"):
        open_claim(name)


def test_a_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(FathomError, match="UTF-8"):
        open_claim(str(path))


def test_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FathomError, match="cannot be read"):
        open_claim(str(tmp_path))
