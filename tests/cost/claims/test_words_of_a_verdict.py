"""What a reader is told: no ledger on a price that cannot be so, rents of their time, one prediction, labels."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.efficiency_model import published_rows
from fathom.cli import cli
from fathom.cost.calibration import leave_one_group_out
from fathom.cost.claims import all_on_file, names, on_file
from fathom.cost.docket_sections import Section, sections
from fathom.cost.docket_text import as_markdown, as_text
from fathom.cost.hardware import accelerator
from fathom.cost.say import share
from fathom.cost.verdict import trial_dict, try_claim
from fathom.cost.verdict_words import Verdict


def section(name: str, key: str) -> Section:
    return next(part for part in sections(try_claim(on_file(name))) if part.key == key)


def text_of(name: str, key: str) -> str:
    part = section(name, key)
    return " ".join(
        [*part.paragraphs, *(text for _, text in part.bullets), *(cell for row in part.rows for cell in row)]
    )


def test_nothing_is_added_to_a_price_that_cannot_be_so() -> None:
    trial = try_claim(on_file("r1-294k-model"))
    document = trial_dict(trial)
    assert trial.omissions.lines == ()
    assert document["left_out"]["with_what_is_left_out_usd"] is None
    assert "means nothing" in document["left_out"]["refused"]
    assert "With the lines" not in as_markdown(trial)


def test_the_294k_are_said_to_stand_on_a_base_of_5_58_million() -> None:
    text = text_of("r1-294k-model", "left-out")
    assert "DeepSeek-V3-Base" in text
    assert "$5.58 million" in text
    assert "1.91 million" not in text


def test_every_doubted_training_price_is_without_a_ledger_and_every_other_has_one() -> None:
    for claim in all_on_file():
        trial = try_claim(claim)
        if claim.kind == "training":
            doubted = trial.verdict in (Verdict.IMPOSSIBLE, Verdict.IMPLAUSIBLE)
            assert bool(trial.omissions.refused) is doubted, claim.id
            assert bool(trial.omissions.lines) is not doubted, claim.id


@pytest.mark.parametrize("name", ["gpt-3", "gopher-280b", "opt-175b", "palm-540b", "yalm-100b", "llama-1-65b"])
def test_a_rent_of_another_time_is_called_so(name: str) -> None:
    """The oldest price on file is of 2023; these are of 2020 to early 2023."""
    trial = try_claim(on_file(name))
    assert trial.priced is not None
    assert not trial.priced.rent.of_its_time
    text = " ".join(as_text(trial, 1000).split())
    assert f"no rent of that time on file; the nearest is of {trial.priced.rent.nearest}" in text
    assert "at the rent of its time" not in text
    assert "rents on file at the time" not in text
    assert "market rent:" not in text


def test_a_rent_of_the_time_is_called_so() -> None:
    trial = try_claim(on_file("deepseek-v3"))
    assert trial.priced is not None
    assert trial.priced.rent.of_its_time
    assert "price of the hours at rents on file" in text_of("deepseek-v3", "follows")


@pytest.mark.parametrize(
    ("device", "asked", "name"),
    [("v100", "bf16", "fp16"), ("a100", "bf16", "bf16"), ("a100", "fp8", "bf16"), ("h800", "fp8", "fp8"),
     ("a100", "mixed (amp)", "bf16")],
)  # fmt: skip
def test_a_rate_is_named_by_the_units_that_the_device_has(device: str, asked: str, name: str) -> None:
    assert accelerator(device).runs_in(asked) == name


def test_gpt_3_is_bound_by_the_fp16_rate_of_its_v100() -> None:
    assert "at the full fp16 rate" in text_of("gpt-3", "follows")
    assert "bf16" not in text_of("gpt-3", "follows")


def test_days_of_v3_are_labelled_by_what_they_hold() -> None:
    rows = {row[0]: row[1] for row in section("deepseek-v3", "follows").rows}
    assert rows["Days of pre-training alone on the 2,048 devices"] == "54.2 days"
    assert rows["Days of all three stages on them"] == "56.7 days"
    assert "54.2 days that the stated machines take for the pre-training" in text_of("deepseek-v3", "counter")


def test_a_run_that_was_learned_from_is_predicted_without_its_maker() -> None:
    held = next(one for one in leave_one_group_out(published_rows()) if one.row.claim == "deepseek-v3")
    for name in ("deepseek-v3", "r1-294k-model"):
        expected = trial_dict(try_claim(on_file(name)))["expected"]
        assert expected["left_out"] == "DeepSeek-AI"
        ends = [expected["device_hours"][end] for end in ("low", "median", "high")]
        assert ends == pytest.approx(held.hours, rel=0.01)  # the nominal 37B against the counted shape
    assert trial_dict(try_claim(on_file("deepseek-v4-pro")))["expected"]["left_out"] is None


def test_consistent_is_no_praise_of_hours_that_are_not_expected() -> None:
    trials = {name: try_claim(on_file(name)) for name in names()}
    missed = {name for name, trial in trials.items() if trial.expected is not None and trial.expected.met is False}
    said = {name for name in trials if "outside of an interval that eight runs in ten keep" in text_of(name, "verdict")}
    assert said
    assert said == {name for name in missed if trials[name].verdict is Verdict.CONSISTENT}


def test_claim_shows_what_plan_answers_for_v3() -> None:
    arguments = ["plan", "--model", "deepseek-v3", "--tokens", "14.8e12", "--accelerator", "h800", "--count", "2048"]
    planned = json.loads(CliRunner().invoke(cli, [*arguments, "--json"]).stdout)
    expected = trial_dict(try_claim(on_file("deepseek-v3")))["expected"]["device_hours_by_plan"]
    for end in ("low", "median", "high"):
        assert expected[end] == pytest.approx(planned["device_hours"][end], rel=1e-6)


def test_one_prediction_is_shown_and_what_it_is_of() -> None:
    text = text_of("deepseek-v3", "expected")
    assert text.count("(middle") == 3  # hours, hours as planned, dollars, once each
    assert "pre-training alone" in text
    assert "124,000 stated hours" in text


def test_values_of_tables_are_labelled_in_a_terminal() -> None:
    stargate, rule = (
        " ".join(as_text(try_claim(on_file(name)), 110).split()) for name in ("stargate", "export-controls")
    )
    fleet = try_claim(on_file("stargate")).capacity
    assert fleet is not None
    assert f"utilisation to expect: slow {share(fleet.fleets[0].utilisation)}; usual" in stargate
    assert "bandwidth 100%; link 44.4%" in rule
    assert "at rents on file $3" in as_text(try_claim(on_file("deepseek-v3")), 110)


@pytest.mark.parametrize(
    ("name", "lacking"),
    [("stargate", {"accelerator", "accelerator_count", "proof_of_machines"}), ("50000-h100", {"proof_of_machines"})],
)
def test_what_would_settle_a_fleet_is_named(name: str, lacking: set[str]) -> None:
    trial = try_claim(on_file(name))
    assert set(trial.missing) == lacking
    assert all(f"({word})" in text_of(name, "verdict") for word in lacking)


def test_every_claim_that_cannot_be_told_names_what_is_missing() -> None:
    for claim in all_on_file():
        trial = try_claim(claim)
        if trial.verdict is Verdict.CANNOT_BE_TOLD:
            assert trial.missing or any(finding.missing for finding in trial.findings), claim.id


def test_sides_of_a_check_say_which_is_stated() -> None:
    text = text_of("deepseek-v3", "verdict")
    assert "Days per trillion tokens on 2,048 devices: 3.66 days computed, 3.7 stated." in text
    assert "Hours times rent is the price: $5,576,000 both ways." in text
    assert " against " not in text


def test_a_check_that_fails_says_so_in_a_sentence() -> None:
    text = text_of("r1-648-h800", "verdict")
    assert "648 devices for the stated hours: not so. 185,144 device-hours computed, 147,000 stated, off by" in text


def test_shares_are_printed_in_percent() -> None:
    assert "The margin: 545% of cost both ways." in text_of("deepseek-inference-day", "verdict")


@pytest.mark.parametrize("flag", ["--html", "--markdown"])
def test_the_docket_has_no_single_page(flag: str) -> None:
    result = CliRunner().invoke(cli, ["claim", "--list", flag])
    assert result.exit_code == 2
    assert "--site DIR" in result.output


@pytest.mark.parametrize("place", ["/proc/x", "FILE/site", "FULL"])
def test_a_site_that_cannot_be_written_gets_one_sentence(place: str, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("x", encoding="utf-8")
    (tmp_path / "FULL").mkdir()
    (tmp_path / "FULL" / "index.html").write_text("<p>somebody's own</p>", encoding="utf-8")
    command = [sys.executable, "-m", "fathom", "claim", "--site", place if place[0] == "/" else str(tmp_path / place)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("fathom: ")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / "FULL" / "index.html").read_text(encoding="utf-8") == "<p>somebody's own</p>"
