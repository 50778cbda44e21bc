"""What a run's ledger promises: every session has its end or its resume says why not, and all time is charged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from runs_made_here import RECIPE, finished_run, python, take_steps

from fathom.errors import FathomError
from fathom.ledger import Ledger, events, read, verify
from fathom.ledger.reading import only, status_of
from fathom.ledger.workspace import read_workspace


def test_the_start_says_recipe_environment_hardware_code_and_odometers(tmp_path):
    start = read(finished_run(tmp_path / "run"))[0].body
    assert start.recipe == RECIPE
    assert start.environment["packages"]["rfc8785"]
    assert start.hardware["cores"] == len(os.sched_getaffinity(0))
    assert start.hardware["billed"][0]["count"] >= 1
    assert start.code["source_sha256"].startswith("sha256:")
    assert start.code["dirty"] in (True, False, None)
    assert start.odometers.boot_id
    assert start.odometers.monotonic_seconds > 0


def test_the_code_digest_changes_with_any_source_file(tmp_path):
    from fathom.ledger.machine import code_digest

    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "a.py").write_text("x = 1\n")
    before = code_digest(tmp_path)
    (tmp_path / "room" / "a.py").write_text("x = 2\n")
    changed = code_digest(tmp_path)
    (tmp_path / "room" / "a.py").rename(tmp_path / "room" / "b.py")
    assert len({before, changed, code_digest(tmp_path)}) == 3


def test_every_second_and_joule_of_a_session_is_charged_to_one_event(tmp_path):
    ledger = Ledger.create(tmp_path / "run")
    ledger.start(recipe=RECIPE)
    take_steps(ledger, 1, 2)
    time.sleep(0.05)
    ledger.note("pause")
    ledger.end("completed")
    bodies = [event.body for event in read(tmp_path / "run")]
    clock = bodies[-1].monotonic_seconds - bodies[0].monotonic_seconds
    assert sum(body.elapsed_seconds for body in bodies[1:]) == pytest.approx(clock, abs=2e-3)
    note = only(read(tmp_path / "run"), events.Note)[0]
    assert note.elapsed_seconds >= 0.05
    assert 0 < note.joules.low <= note.joules.likely <= note.joules.high


def test_work_before_the_ledger_was_opened_can_be_charged(tmp_path):
    ledger = Ledger.create(tmp_path / "run", since=time.monotonic() - 100)
    ledger.start(recipe=RECIPE)
    ledger.end("completed")
    start = read(tmp_path / "run")[0].body
    assert start.elapsed_seconds >= 100
    assert start.joules.likely > 0


def test_numbers_that_are_not_finite_and_counts_beyond_json_come_back_as_they_were(tmp_path):
    with Ledger.create(tmp_path / "run") as ledger:
        ledger.start(recipe=RECIPE)
        ledger.step(
            step=np.int64(1), tokens=2**70, loss=float("nan"), learning_rate=np.float32(0.5), flops={"experts": 10**25},
            gradient_norm=float("inf"), details={"load": np.arange(3), "path": Path("x")},
        )  # fmt: skip
    step = only(read(tmp_path / "run"), events.Step)[0]
    assert step.loss != step.loss
    assert (step.tokens, step.flops["experts"], step.gradient_norm) == (2**70, 10**25, float("inf"))
    assert step.details == {"load": [0, 1, 2], "path": "x"}
    assert verify(tmp_path / "run").holds


def test_a_wrong_event_is_refused_and_leaves_no_line(tmp_path):
    ledger = Ledger.create(tmp_path / "run")
    ledger.start(recipe=RECIPE)
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        ledger.step(step=1, tokens=-5, loss=1.0, learning_rate=1.0)
    ledger.end("completed")
    assert [event.body.kind for event in read(tmp_path / "run")] == ["start", "end"]


def test_one_process_holds_a_run(tmp_path):
    ledger = Ledger.create(tmp_path / "run")
    ledger.start(recipe=RECIPE)
    with pytest.raises(FathomError, match="already being written by this process"):
        Ledger.resume(tmp_path / "run")
    other = python(f"from fathom.ledger import Ledger; Ledger.resume({str(tmp_path / 'run')!r})")
    assert "is being written by another process" in other.stderr
    assert status_of(tmp_path / "run", read(tmp_path / "run")) == "running"
    ledger.end("completed")
    Ledger.resume(tmp_path / "run").close()


def test_a_name_is_used_once_and_only_a_run_is_resumed(tmp_path):
    finished_run(tmp_path / "run")
    with pytest.raises(FathomError, match="already holds a run"):
        Ledger.create(tmp_path / "run")
    with pytest.raises(FathomError, match=r"has no ledger\.jsonl"):
        Ledger.resume(tmp_path / "other")


@pytest.mark.parametrize(
    ("raised", "status"), [(ValueError("boom"), "failed"), (KeyboardInterrupt(), "interrupted"), (None, "completed")]
)
def test_leaving_the_block_writes_the_end(tmp_path, raised, status):
    def work() -> None:
        with Ledger.create(tmp_path / "run") as ledger:
            ledger.start(recipe=RECIPE)
            if raised is not None:
                raise raised

    if raised is None:
        work()
    else:
        with pytest.raises(type(raised)):
            work()
    end = read(tmp_path / "run")[-1].body
    assert (end.kind, end.status) == ("end", status)
    assert read_workspace(tmp_path).records[-1]["status"] == status


@pytest.mark.parametrize(("leave", "status"), [("pass", "interrupted"), ("raise ValueError('boom')", "failed")])
def test_an_interpreter_that_leaves_without_an_end_writes_one(tmp_path, leave, status):
    python(
        f"""
        from fathom.ledger import Ledger
        ledger = Ledger.create({str(tmp_path / "run")!r})
        ledger.start(recipe={{}})
        {leave}
        """
    )
    assert read(tmp_path / "run")[-1].body.status == status


KILLED = """
import sys, time
from fathom.ledger import Ledger
from runs_made_here import take_steps
ledger = Ledger.create(sys.argv[1])
ledger.start(recipe={})
take_steps(ledger, 1, 10)
print("ready", flush=True)
while True:
    take_steps(ledger, 11, 12)
"""


def killed_run(run_dir: Path) -> Path:
    """A run of more than ten steps whose process was killed with signal 9 while it wrote."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", KILLED, str(run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    return run_dir


def test_after_a_kill_the_resume_says_what_can_be_known(tmp_path):
    run = killed_run(tmp_path / "run")
    assert status_of(run, read(run)) == "killed"
    with Ledger.resume(run) as ledger:
        ledger.resumed(from_step=5)
        take_steps(ledger, 6, 8)
    resume = only(read(run), events.Resume)[0]
    assert resume.from_step == 5
    assert resume.last_session["ended"] == "killed"
    assert resume.last_session["last_event"] == "step"
    assert resume.last_session["unseen_seconds"] >= 0
    assert verify(run).holds
    assert [entry["entry"] for entry in read_workspace(tmp_path).records] == ["start", "resume", "end"]


def test_a_run_is_free_again_even_where_its_receipt_cannot_be_written(tmp_path, monkeypatch):
    from fathom.ledger import receipt

    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ledger = Ledger.create(tmp_path / "run")
    ledger.start(recipe=RECIPE)
    monkeypatch.setattr(receipt, "write", broken)
    with pytest.raises(OSError, match="No space"):
        ledger.end("completed")
    assert read(tmp_path / "run")[-1].body.status == "completed"
    Ledger.resume(tmp_path / "run").close()


def test_a_run_that_died_before_its_start_event_can_be_begun(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "ledger.jsonl").write_bytes(b'{"boot_i')
    with Ledger.resume(tmp_path / "run") as ledger:
        assert not ledger.started
        with pytest.raises(FathomError, match="never started"):
            ledger.resumed(from_step=1)
        ledger.start(recipe=RECIPE)
    assert read(tmp_path / "run")[0].torn == {"bytes": 8, "hash": read(tmp_path / "run")[0].torn["hash"]}


def test_nothing_is_entered_outside_a_session(tmp_path):
    run = finished_run(tmp_path / "run")
    ledger = Ledger.resume(run)
    with pytest.raises(FathomError, match="call start or resumed first"):
        take_steps(ledger, 4, 4)
    ledger.close()


def test_events_of_another_schema_are_refused_by_version(tmp_path):
    import json

    from fathom.ledger.chain import seal

    run = finished_run(tmp_path / "run")
    record = json.loads((run / "ledger.jsonl").read_bytes().splitlines()[0])
    del record["hash"]
    (run / "ledger.jsonl").write_bytes(seal({**record, "schema_version": 99}))
    with pytest.raises(FathomError, match="schema version 99; this Fathom reads version 1"):
        read(run)
