"""The bill: sums that hold, failures in, nothing rounded in its own favour, shared meters said by both."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_made_here import RECIPE, finished_run, take_steps
from test_book import killed_run

from fathom.errors import FathomError
from fathom.ledger import Ledger, read, verify
from fathom.ledger.dollars import dollars, round_up
from fathom.ledger.programme import programme, run_lines
from fathom.ledger.receipt import receipt
from fathom.ledger.workspace import find_run


def test_the_purposes_add_up_to_the_whole(tmp_path):
    with Ledger.create(tmp_path / "run") as ledger:
        ledger.start(recipe=RECIPE)
        take_steps(ledger, 1, 4)
        ledger.step(step=5, tokens=9, loss=1.0, learning_rate=1.0, flops={"head": 2}, purpose="tuning")
        ledger.evaluation(name="held out", results={"bits_per_byte": 1.2}, tokens=50, flops={"attention": 3})
    bill = receipt(tmp_path / "run")
    parts = bill["by_purpose"]
    assert set(parts) == {"final", "tuning", "evaluation"}
    assert bill["flops"] == {"total": 4 * 18 + 2 + 3, "by_component": {"attention": 31, "experts": 44, "head": 2}}
    assert bill["tokens"] == sum(part["tokens"] for part in parts.values()) == 409
    assert sum(part["flops"]["total"] for part in parts.values()) == bill["flops"]["total"]
    for figure in ("low", "likely", "high"):
        assert sum(part["joules"][figure] for part in parts.values()) == pytest.approx(bill["joules"][figure])
    assert sum(part["seconds"] for part in parts.values()) == pytest.approx(bill["seconds"])


def test_steps_taken_again_after_a_kill_count_apart_and_as_failed(tmp_path):
    run = killed_run(tmp_path / "run")
    taken = sum(event.body.kind == "step" for event in read(run))
    with Ledger.resume(run) as ledger:
        ledger.resumed(from_step=8)
        take_steps(ledger, 9, 12)
    bill = receipt(run)
    assert bill["wasted"]["steps"] == bill["by_purpose"]["failed"]["steps"] == taken - 8
    assert bill["by_purpose"]["final"]["steps"] == 12
    assert bill["steps"] == taken + 4
    assert [session["ended"] for session in bill["sessions"]] == ["killed", "completed"]
    again = sum(event.body.elapsed_seconds for event in read(run) if event.body.kind == "resume")
    assert again > 0
    assert bill["by_purpose"]["failed"]["seconds"] == pytest.approx(bill["wasted"]["seconds"] + again)


def test_steps_undone_by_a_rollback_are_wasted_too(tmp_path):
    with Ledger.create(tmp_path / "run") as ledger:
        ledger.start(recipe=RECIPE)
        take_steps(ledger, 1, 6)
        ledger.note("rollback", "the loss leapt", to_step=4)
        take_steps(ledger, 5, 6)
    assert receipt(tmp_path / "run")["wasted"]["steps"] == 2


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_what_an_unfinished_run_took_is_the_price_of_failing(tmp_path, status):
    bill = receipt(finished_run(tmp_path / "run", steps=3, status=status))
    assert bill["by_purpose"]["failed"]["steps"] == 3
    assert "final" not in bill["by_purpose"]


def test_the_programme_counts_every_run_started_deleted_ones_too(tmp_path):
    finished_run(tmp_path / "good")
    finished_run(tmp_path / "bad", status="failed")
    finished_run(tmp_path / "trial", purpose="ablation")
    killed_run(tmp_path / "killed")
    steps_killed = receipt(tmp_path / "killed")["steps"]
    before = programme(tmp_path)
    shutil.rmtree(tmp_path / "bad")
    after = programme(tmp_path)
    assert after["runs_started"] == before["runs_started"] == 4
    assert after["by_status"] == {"completed": 2, "failed": 1, "killed": 1}
    assert after["steps"] == before["steps"] == 9 + steps_killed
    assert after["by_purpose"]["failed"]["steps"] == 3 + steps_killed
    assert after["by_purpose"]["ablation"]["steps"] == 3
    assert [line.folder for line in run_lines(tmp_path)] == ["there", "gone", "there", "there"]


def test_a_killed_run_whose_folder_is_deleted_keeps_what_its_checkpoints_told(tmp_path):
    ledger = Ledger.create(tmp_path / "run")
    ledger.start(recipe=RECIPE)
    take_steps(ledger, 1, 5)
    (tmp_path / "run" / "step-5").mkdir()
    ledger.checkpoint(step=5, path=tmp_path / "run" / "step-5")
    ledger.close()
    shutil.rmtree(tmp_path / "run")
    assert programme(tmp_path)["by_purpose"]["failed"]["steps"] == 5


def test_a_name_used_again_is_another_run(tmp_path):
    finished_run(tmp_path / "run", steps=2)
    shutil.rmtree(tmp_path / "run")
    finished_run(tmp_path / "run", steps=3)
    total = programme(tmp_path)
    assert (total["runs_started"], total["steps"]) == (2, 5)


def test_two_runs_at_once_both_say_that_they_shared_a_meter(tmp_path):
    first, second = Ledger.create(tmp_path / "first"), Ledger.create(tmp_path / "second")
    first.start(recipe=RECIPE)
    second.start(recipe=RECIPE)
    take_steps(first, 1, 2)
    take_steps(second, 1, 2)
    first.end("completed")
    second.end("completed")
    finished_run(tmp_path / "alone")
    assert list(receipt(tmp_path / "first")["shared_metering"]) == ["second"]
    assert list(json.loads((tmp_path / "second" / "receipt.json").read_text())["shared_metering"]) == ["first"]
    assert receipt(tmp_path / "alone")["shared_metering"] == {}
    assert programme(tmp_path)["shared_metering"] == ["first", "second"]


def test_a_run_beside_one_that_is_still_going_says_so(tmp_path):
    going = Ledger.create(tmp_path / "going")
    going.start(recipe=RECIPE)
    finished_run(tmp_path / "short")
    assert list(receipt(tmp_path / "short")["shared_metering"]) == ["going"]
    assert receipt(tmp_path / "going")["status"] == "running"
    going.close()


def test_the_receipt_on_disk_is_the_one_that_the_ledger_gives(tmp_path):
    run = finished_run(tmp_path / "run")
    assert json.loads((run / "receipt.json").read_text()) == receipt(run)
    assert "signature" not in receipt(run)


def test_regulators_count_what_made_the_model_and_not_what_failed_or_measured_it(tmp_path):
    with Ledger.create(tmp_path / "run") as ledger:
        ledger.start(recipe=RECIPE)
        take_steps(ledger, 1, 3)
        ledger.note("rollback", to_step=2)
        take_steps(ledger, 3, 3)
        ledger.evaluation(name="held out", results={}, flops={"attention": 5})
    bill = receipt(tmp_path / "run")
    assert bill["regulators"]["final_run"]["value"] == 3 * 18
    assert bill["regulators"]["regulators"]["value"] == 3 * 18
    assert bill["regulators"]["all"]["value"] == bill["flops"]["total"] == 4 * 18 + 5
    assert set(bill["regulators"]["not_counted"]) == {"failed", "evaluation"}


def test_dollars_have_their_price_date_and_source(tmp_path):
    usd = dollars([{"device": "h100", "count": 2}], seconds=1800)
    (price,) = usd["prices"]
    assert usd["median"] == pytest.approx(price["usd_per_hour"])
    assert usd["low"] <= usd["median"] <= usd["high"]
    assert price["date"]
    assert price["source"]


def test_a_device_without_a_price_is_never_free():
    usd = dollars([{"device": "Abacus 9000", "count": 1}], seconds=10)
    assert usd["median"] is None
    assert "Abacus 9000" in usd["method"]


@given(value=st.floats(1e-12, 1e30), digits=st.integers(1, 6))
def test_rounding_is_never_in_the_bills_own_favour(value, digits):
    rounded = round_up(value, digits)
    assert value <= rounded <= value * (1 + 10.0 ** (1 - digits) * 1.001)


@given(value=st.floats(1e-9, 1e27))
def test_printed_costs_are_never_below_the_cost(value):
    from fathom.ledger import show

    number, _, unit = show.scaled(value, "J").partition(" ")
    prefix = dict([(name, size) for size, name in show._PREFIXES], **{"": 1.0})[unit[:-1]]
    assert float(number.replace(",", "")) * prefix >= value * (1 - 1e-12)


def test_printed_seconds_round_up():
    from fathom.ledger import show

    assert [show.seconds(value) for value in (0.12341, 59.2, 60.1, 3600, 7325.5)] == [
        "0.124 s", "59.2 s", "1 min 1 s", "1 h", "2 h 2 min 6 s",
    ]  # fmt: skip


def test_a_run_is_found_by_name_or_folder_and_a_misspelt_one_gets_the_nearest(tmp_path, monkeypatch):
    run = finished_run(tmp_path / "laptop-1")
    assert find_run("laptop-1", tmp_path) == (run, tmp_path)
    monkeypatch.setenv("FATHOM_RUNS", str(tmp_path))
    assert find_run("laptop-1") == (run, tmp_path)
    monkeypatch.delenv("FATHOM_RUNS")
    assert find_run(str(run)) == (run, tmp_path)
    with pytest.raises(FathomError, match="there are laptop-1"):
        find_run("laptop1", tmp_path)
    with pytest.raises(FathomError, match="no run"):
        find_run(str(tmp_path))


def checkpoint_run(run: Path) -> Path:
    with Ledger.create(run) as ledger:
        ledger.start(recipe=RECIPE)
        take_steps(ledger, 1, 2)
        folder = run / "checkpoints" / "step-2"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        ledger.checkpoint(step=2, path=folder)
    return run


def test_an_untouched_run_verifies_and_says_what_was_checked(tmp_path):
    found = verify(checkpoint_run(tmp_path / "run"))
    assert found.holds
    assert len(found.checked) == 4


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda run: (run / "checkpoints/step-2/model.safetensors").write_bytes(b"weightz"), "is not the file"),
        (lambda run: (run / "checkpoints/step-2/model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda run: (run / "checkpoints/step-2/extra.bin").write_bytes(b""), "extra.bin is not in the ledger"),
        (lambda run: _edit_receipt(run), "does not say what the ledger says"),
        (lambda run: _cut_lines(run, 2), "is gone"),
        (lambda run: shutil.copytree(run.parent / "other", run, dirs_exist_ok=True), "does not know|names a ledger"),
    ],
)  # fmt: skip
def test_what_was_changed_afterwards_is_named(tmp_path, harm, words):
    run = checkpoint_run(tmp_path / "run")
    finished_run(tmp_path / "elsewhere" / "other")
    shutil.move(tmp_path / "elsewhere" / "other", tmp_path / "other")
    harm(run)
    found = verify(run)
    assert not found.holds
    assert any(re.search(words, problem) for problem in found.problems), found.problems


def _edit_receipt(run: Path) -> None:
    bill = json.loads((run / "receipt.json").read_text())
    bill["flops"]["total"] -= 1
    (run / "receipt.json").write_text(json.dumps(bill))


def _cut_lines(run: Path, count: int) -> None:
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:-count]))
